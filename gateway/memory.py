"""What all requests hold in memory together: their bodies, their pictures, and the pixels of a
picture while it is checked.

No two requests can wait for each other's memory. A fetch or a decode that may not fit waits for the
other fetches or decodes, which end by themselves, and then goes alone; what does not fit even so is
refused, and what the refused request held makes room for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from starlette.types import Scope

from gateway.errors import BodyTooLarge, QueueFull

RETRY_S = 1.0


class MemoryBudget:
    """Bytes that all requests may hold at once.

    Args:
        max_bytes: `--max-buffered-bytes`.
        freed: told of whatever is given back.
    """

    def __init__(self, max_bytes: int, freed: Callable[[int], None]) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._freed = freed

    def open(self) -> Holding:
        return Holding(self)

    def fits(self, size_bytes: int) -> bool:
        return self.used_bytes + size_bytes <= self.max_bytes

    def give_back(self, size_bytes: int) -> None:
        self.used_bytes -= size_bytes
        self._freed(size_bytes)


class Holding:
    """What one request holds of the budget; all of it is given back at the end of its block."""

    def __init__(self, budget: MemoryBudget) -> None:
        self.held_bytes = 0
        self._budget = budget

    def __enter__(self) -> Holding:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.give_back(self.held_bytes)

    def take(self, size_bytes: int, param: str | None = None) -> None:
        """Count in what is about to be there.

        Args:
            param: the request's field that it is needed for; None: the body.

        Raises:
            BodyTooLarge: with what the request holds already it is more than there is for all.
            QueueFull: others hold too much at the moment.
        """
        self.check(size_bytes, param)
        if not self._budget.fits(size_bytes):
            raise QueueFull(retry_after_s=RETRY_S, param=param)
        self.held_bytes += size_bytes
        self._budget.used_bytes += size_bytes

    def check(self, size_bytes: int, param: str | None = None) -> None:
        """Raises BodyTooLarge as `take` would, which is the same at any time."""
        most = self._budget.max_bytes
        if self.held_bytes + size_bytes > most:
            raise BodyTooLarge(
                f"The request takes more than {most} bytes of memory, its images and their "
                "pixels included (--max-buffered-bytes); send fewer or smaller images.",
                param=param,
            )

    def give_back(self, size_bytes: int) -> None:
        self.held_bytes -= size_bytes
        self._budget.give_back(size_bytes)


def memory_of(scope: Scope) -> Holding:
    """Return what this request holds; `BodyBudget` put it there."""
    holding: Holding = scope["state"]["memory"]
    return holding
