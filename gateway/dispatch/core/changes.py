"""What has changed and is still to be looked at, before an entry of the core returns."""

from __future__ import annotations


class Changes:
    """Names of pools, marked where the change itself is made; `Core` settles them.

    So nobody who frees a slot, hears of a worker or lifts a suspicion has to remember that a job
    may be waiting for just that.
    """

    __slots__ = ("resized", "stirred", "wanted")

    def __init__(self) -> None:
        self.resized: set[str] = set()
        """Workers have come or gone, or offer another number of slots."""
        self.stirred: set[str] = set()
        """A job has become ready, a worker has room or is trusted again, a slot is free."""
        self.wanted: set[str] = set()
        """Somebody may wait for that model while nobody has it loaded."""
