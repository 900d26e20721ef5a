"""What can go wrong, by meaning: each class knows its HTTP status and its code.

`gateway/http/error_body.py` is the one place that turns these into a body.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

AT_CAPACITY = "Too many requests. Service is at capacity."


MOST_NAMES = 64
"""Of models that an error shows."""


def listed(names: Sequence[str]) -> str:
    """Return the names as an error shows them: not all of very many."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


class ApiError(Exception):
    """An error that a client is told about.

    Args:
        message: plain words: what happened and what to do.
        param: the request field at fault, as a path (`messages[0].content[1].image_url.url`).
        code: overrides the class's code with a more telling one.
    """

    status = 500
    code = "internal_error"
    type = "server_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code

    @property
    def headers(self) -> dict[str, str]:
        return {}


class InvalidRequest(ApiError):
    status = 400
    code = "invalid_request"
    type = "invalid_request_error"


class ContextExceeded(InvalidRequest):
    """A prompt that leaves no room for an answer, with both lengths in tokens."""

    code = "context_length_exceeded"

    def __init__(
        self, message: str, *, prompt_tokens: int, context_tokens: int, param: str | None
    ) -> None:
        super().__init__(message, param=param)
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class ModelTooLarge(InvalidRequest):
    """A model that no host here can ever load: it takes more than any of them has for models."""

    code = "model_too_large"


class InvalidApiKey(ApiError):
    status = 401
    code = "invalid_api_key"
    type = "authentication_error"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class Forbidden(ApiError):
    status = 403
    code = "forbidden"
    type = "permission_error"


class NotFound(ApiError):
    status = 404
    code = "not_found"
    type = "invalid_request_error"


class MethodNotAllowed(ApiError):
    status = 405
    code = "method_not_allowed"
    type = "invalid_request_error"


class BodyTooLarge(ApiError):
    status = 413
    code = "request_too_large"
    type = "invalid_request_error"


class UnsupportedMediaType(ApiError):
    status = 415
    code = "unsupported_media_type"
    type = "invalid_request_error"


class Retryable(ApiError):
    """An error that passes with time.

    Args:
        retry_after_s: an estimate; the header carries it in whole seconds, at least 1.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}


class QueueFull(Retryable):
    status = 429
    code = "queue_full"
    type = "rate_limit_error"

    def __init__(self, *, retry_after_s: float, param: str | None = None) -> None:
        super().__init__(AT_CAPACITY, retry_after_s=retry_after_s, param=param)


class NoWorker(Retryable):
    """No live worker for this model; `code` "loading" while one is on its way."""

    status = 503
    code = "no_worker"
    type = "server_error"


class NoMemory(Retryable):
    """A model that is not loaded, and no room for it now: others hold the memory."""

    status = 503
    code = "no_memory"
    type = "server_error"


class OutOfMemory(Retryable):
    """One request for which its worker had too little memory."""

    status = 503
    code = "out_of_memory"
    type = "server_error"


class NotAgain(ApiError):
    """An error that trying again makes worse. OpenAI's and Anthropic's SDKs, which try every 5xx
    again by themselves, heed the header."""

    @property
    def headers(self) -> dict[str, str]:
        return {"x-should-retry": "false"}


class WorkerFailed(NotAgain):
    status = 500
    code = "worker_failed"
    type = "server_error"


class DeadlinePassed(NotAgain):
    status = 504
    code = "timeout"
    type = "timeout_error"
