"""What can go wrong with one job, said so that its client can act on it."""

from __future__ import annotations

from shared.messages import FailureCode


class JobFault(Exception):
    """This job cannot be done; the others are not concerned.

    Args:
        code: what kind of fault it is; the gateway turns it into an HTTP status.
        message: for the client; says what to change where it can.
        param: the request's field at fault, as OpenAI names it.
        lengths: of a prompt that is too long, and of the context, in tokens.
    """

    def __init__(
        self,
        code: FailureCode,
        message: str,
        param: str | None = None,
        lengths: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.lengths = lengths


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of MLX (a plain RuntimeError) or Python says that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "unable to allocate" in words or "out of memory" in words or "[malloc" in words
    )


def as_fault(error: Exception) -> JobFault:
    """What a job's client is told of an exception."""
    if isinstance(error, JobFault):
        return error
    if is_out_of_memory(error):
        return JobFault("out_of_memory", "This worker's memory does not suffice at the moment.")
    return JobFault("internal_error", f"The request has failed in the engine: {error}")
