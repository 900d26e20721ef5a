"""The one place where an error becomes something a client can read.

`detail` is where clients of FastAPI servers look for the message, `error` is where OpenAI's SDKs
look. Where Anthropic's clients speak, the same body carries their names for the types of errors.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from gateway.errors import (
    ApiError,
    ContextExceeded,
    InvalidRequest,
    MethodNotAllowed,
    NoWorker,
)
from gateway.http.not_here import not_found

log = logging.getLogger(__name__)

ANTHROPIC_PATH = "/v1/messages"
ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

STOPPED_RETRY_S = 5.0

MOST_CHARACTERS = 4_096
MOST_PARAM_CHARACTERS = 512
"""Of a message, and of the field's path. Both may hold what the client has sent: a parameter's name
of 60 MB would be answered by three times as much, which counts in nobody's memory budget."""

_encode = msgspec.json.Encoder().encode


def error_content(error: ApiError) -> dict[str, Any]:
    """Return the `error` object of a body or of a stream's error event."""
    return {
        "message": _shown(error.message, MOST_CHARACTERS),
        "type": error.type,
        "param": error.param and _shown(error.param, MOST_PARAM_CHARACTERS),
        "code": error.code,
    }


def _shown(text: str, most_characters: int) -> str:
    return text if len(text) <= most_characters else text[: most_characters - 1] + "…"


def anthropic_error_content(error: ApiError) -> dict[str, Any]:
    """Return the `error` object under Anthropic's name for its type, and in the words by which its
    clients know that they must shorten the conversation."""
    content = error_content(error) | {"type": ANTHROPIC_TYPES.get(error.status, "api_error")}
    if isinstance(error, ContextExceeded):
        content["message"] = (
            f"prompt is too long: {error.prompt_tokens} tokens > {error.context_tokens} maximum"
        )
    return content


def error_body(error: ApiError, path: str = "") -> bytes:
    """Return the JSON body of an answer.

    Args:
        path: the request's, which tells the dialect that the client speaks.
    """
    if path.startswith(ANTHROPIC_PATH):
        content = anthropic_error_content(error)
        return _encode({"type": "error", "detail": content["message"], "error": content})
    content = error_content(error)
    return _encode({"detail": content["message"], "error": content})


def error_response(error: ApiError, path: str) -> Response:
    return Response(
        error_body(error, path),
        status_code=error.status,
        headers=error.headers,
        media_type="application/json",
    )


def error_event(error: ApiError) -> bytes:
    """Return the server-sent event that ends a broken stream."""
    return b"data: " + _encode({"error": error_content(error)}) + b"\n\n"


def internal_error(scope: Scope) -> ApiError:
    """Return what a client is told about a fault of ours; the log has the rest."""
    request_id = scope.get("state", {}).get("request_id", "unknown")
    return ApiError(f"The server made a mistake. Request id: {request_id}.")


def stopping() -> ApiError:
    """Return what clients are told whose answers the server does not wait for any longer."""
    return NoWorker("The server is being stopped; try again.", retry_after_s=STOPPED_RETRY_S)


def install(app: FastAPI) -> None:
    """Give every error that routes and framework raise the one body."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _internal_error)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error, request.url.path)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = error_response(_as_api_error(request, error), request.url.path)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"][1:])
    invalid = InvalidRequest(f"{where}: {first['msg']}", param=where or None)
    return error_response(invalid, request.url.path)


async def _internal_error(request: Request, error: Exception) -> Response:
    """Answer only: the framework raises the error again, and the outermost middleware logs it."""
    return error_response(internal_error(request.scope), request.url.path)


def _as_api_error(request: Request, error: HTTPException) -> ApiError:
    if error.status_code == 404:
        return not_found(request)
    if error.status_code == 405:
        return _method_not_allowed(request)
    other = InvalidRequest(str(error.detail))
    other.status = error.status_code
    return other


def _method_not_allowed(request: Request) -> MethodNotAllowed:
    message = f"{request.method} is not allowed for {request.url.path}."
    if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
        message += " Pages of other origins are let in by the gateway's flag --cors-origin."
    return MethodNotAllowed(message)
