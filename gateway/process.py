"""What the gateway asks of its own process: open files, the garbage collector, the allocator."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import resource

log = logging.getLogger("gateway")

SPARE_DESCRIPTORS = 256
"""For workers, image fetches and the interpreter itself."""

GC_THRESHOLD = 10_000
"""New objects before the collector looks at them; about what a hundred requests make."""

M_MMAP_THRESHOLD = -3
LARGE_BYTES = 1 << 20
REST_S = 1.0
"""After the last large request: returning memory while they come would only make each of them ask
the system for it again (measured: less than half as many long prompts a second)."""


def allow_connections(wanted: int) -> int:
    """Make room for so many HTTP connections. Returns how many there may be: where the system
    allows few files, half of them stay for everything else, so that those who are connected are
    served, and those beyond are told why not."""
    allowed = allow_descriptors(wanted + SPARE_DESCRIPTORS)
    return min(wanted, max(allowed - SPARE_DESCRIPTORS, allowed // 2))


def allow_descriptors(wanted: int) -> int:
    """Raise this process's limit of open files: macOS starts with 256, and each connection
    takes one. Returns how many of those wanted it may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < allowed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        except (OSError, ValueError):  # a sandbox, or macOS's own limit below an "infinite" one
            allowed = soft
    if allowed < wanted:
        log.warning("--max-connections: the system allows this process only %d files", allowed)
    return allowed


def spare_the_collector() -> None:
    """Keep the garbage collector from searching what never becomes garbage: everything loaded so
    far, most of all FastAPI's and pydantic's classes. It took a quarter of each request's time
    (docs/benchmarks.md). What requests leave behind in cycles is still found."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


class FreedMemory:
    """Returns memory to the system that large requests have freed and glibc keeps for the next:
    150 to 250 MB stayed resident without this (docs/security.md). Other systems' allocators return
    it by themselves."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        self._trim = getattr(libc, "malloc_trim", None)
        if self._trim is not None:
            # glibc raises this by itself as large blocks are freed, and then keeps those below.
            libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        self._due: asyncio.TimerHandle | None = None

    def freed(self, size_bytes: int) -> None:
        """A request is over that held so much; to be called on the event loop."""
        if self._trim is None or size_bytes < LARGE_BYTES:
            return
        if self._due is not None:
            self._due.cancel()
        loop = asyncio.get_running_loop()
        # On a thread: it takes milliseconds, and ctypes lets go of the interpreter's lock.
        self._due = loop.call_later(REST_S, loop.run_in_executor, None, self._trim, 0)
