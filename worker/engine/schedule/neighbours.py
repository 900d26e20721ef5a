"""What the engines of this machine take of its memory, told to one another in a folder.

Each has a file there, which it keeps locked. The lock goes with its process, however that ends, so
that what a killed engine had taken is free at once: whoever reads a file that nobody has locked
sweeps it away.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import stat
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

NAME = "proxy-oai-compat"
SUFFIX = ".engine"
RECORD_BYTES = 512
"""All records are as long, so that each replaces the last one in one piece."""


class Taken(msgspec.Struct, frozen=True):
    """What an engine takes.

    Attributes:
        group: whose budget it shares beside the machine's, "" for none.
        claimed_bytes: what is set aside for it in any case.
        fixed_bytes: of weights and of what a step works with, until it ends.
        passing_bytes: of requests under way and of what is remembered of earlier ones.
        wanted_bytes: what its next request lacks.
    """

    group: str = ""
    claimed_bytes: int = 0
    fixed_bytes: int = 0
    passing_bytes: int = 0
    wanted_bytes: int = 0

    @property
    def lasting_bytes(self) -> int:
        """What does not come free while it lives."""
        return max(self.claimed_bytes, self.fixed_bytes)

    @property
    def all_bytes(self) -> int:
        return max(self.claimed_bytes, self.fixed_bytes + self.passing_bytes)


class Neighbours:
    """The other engines, and this one's own entry among them.

    Without a folder of the user's own there are none, which is logged.

    Args:
        folder: where they meet; None: `runtime_folder()`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        self._told = Taken()
        self._forget: weakref.finalize[[int, Path], Neighbours] | None = None
        self._descriptor = -1
        try:
            self._folder = folder or runtime_folder()
            _make_own(self._folder)
            self._enter()
        except OSError as error:
            log.warning("memory is not shared with other engines of this machine: %s", error)

    def tell(self, taken: Taken) -> None:
        """Say what this engine takes from now on."""
        if taken != self._told:
            self._told = taken
            self._tell()

    def others(self) -> list[Taken]:
        """What each of the other living engines takes."""
        if self._forget is None:
            return []
        names = self._names()
        if self._name not in names:  # somebody tidies the folder
            self._enter_again()
        found = (_read(self._folder / name) for name in names if name != self._name)
        return [taken for taken in found if taken is not None]

    def leave(self) -> None:
        """Take this engine's entry away, as its process' end does, too."""
        if self._forget is not None:
            self._forget()
            self._forget = None

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._folder) if name.endswith(SUFFIX)]
        except FileNotFoundError:
            return []

    def _enter(self) -> None:
        """The file gets its name once it is locked and written: before, others would sweep it."""
        path = self._folder / self._name
        unnamed = path.with_suffix(".new")
        descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _write(descriptor, self._told)
            unnamed.rename(path)
        except OSError:
            _take_away(descriptor, unnamed)
            raise
        self._descriptor = descriptor
        self._forget = weakref.finalize(self, _take_away, descriptor, path)

    def _enter_again(self) -> None:
        self.leave()
        try:
            _make_own(self._folder)
            self._enter()
        except OSError as error:
            log.warning("memory is no longer shared with other engines: %s", error)

    def _tell(self) -> None:
        if self._forget is None:
            return
        try:
            _write(self._descriptor, self._told)
        except OSError as error:
            log.warning("other engines cannot be told what this one takes: %s", error)


def runtime_folder() -> Path:
    """Where this user's processes meet: XDG_RUNTIME_DIR, or a folder of theirs under the temporary
    one, which is a user's own on macOS.

    Raises:
        OSError: no temporary folder can be written to.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / NAME
    return Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}"


def _make_own(folder: Path) -> None:
    """
    Raises:
        OSError: it cannot be made, or others may write there.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or others_write:
        raise PermissionError(f"{folder} is not this user's alone")


def _write(descriptor: int, taken: Taken) -> None:
    os.pwrite(descriptor, msgspec.json.encode(taken).ljust(RECORD_BYTES), 0)


def _read(path: Path) -> Taken | None:
    """What a living engine has told; None if it lives no more, or tells what is not understood."""
    try:
        with _opened(path) as descriptor:
            if _is_abandoned(descriptor):
                path.unlink(missing_ok=True)
                return None
            return msgspec.json.decode(os.pread(descriptor, RECORD_BYTES, 0), type=Taken)
    except (OSError, msgspec.DecodeError):
        return None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_abandoned(descriptor: int) -> bool:
    """Whether nobody holds its lock. A shared one is tried, so that two who look at the same time
    do not take one another for its owner."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take_away(descriptor: int, path: Path) -> None:
    path.unlink(missing_ok=True)
    os.close(descriptor)
