"""What the gateway asks of its own process: open files, the garbage collector, the allocator."""

from __future__ import annotations

import ctypes
import gc
import logging
import resource

log = logging.getLogger("gateway")

GC_THRESHOLD = 10_000
"""New objects before the collector looks at them; about what a hundred requests make."""

M_MMAP_THRESHOLD = -3
"""glibc's number for it (mallopt(3))."""

LARGE_BLOCK_BYTES = 256 * 1024


def allow_descriptors(wanted: int) -> None:
    """Raise this process's limit of open files: macOS starts with 256, and each connection
    takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("--max-connections: the system allows this process only %d files", allowed)


def spare_the_collector() -> None:
    """Keep the garbage collector from searching what never becomes garbage: everything loaded so
    far, most of all FastAPI's and pydantic's classes. It took a quarter of each request's time
    (docs/benchmarks.md). What requests leave behind in cycles is still found."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def return_large_blocks() -> None:
    """Let glibc hand large blocks back to the system when they are freed.

    Left alone it keeps blocks of up to 32 MB in its arenas once it has freed such a one, which
    bodies with images soon do: after such requests 150 to 250 MB stayed resident, with this 90
    (docs/security.md). Other systems' allocators return them by themselves.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
