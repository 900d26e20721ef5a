"""What `/openapi.json` says: routes read their bodies themselves, so they describe them here."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from gateway.errors import (
    ApiError,
    BodyTooLarge,
    DeadlinePassed,
    Forbidden,
    InvalidApiKey,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    NoWorker,
    QueueFull,
    UnsupportedMediaType,
    WorkerFailed,
)

DESCRIPTIONS: dict[type[ApiError], str] = {
    InvalidRequest: "The request is wrong; `param` names the field.",
    InvalidApiKey: "The API key is missing or wrong.",
    Forbidden: "The Host name is not one of this server's, or the key is none for orders.",
    NotFound: "There is no such model or path.",
    MethodNotAllowed: "The path does not take this method.",
    BodyTooLarge: "The body is too large.",
    UnsupportedMediaType: "The body is not declared as JSON.",
    QueueFull: "No place is free; see `Retry-After`.",
    WorkerFailed: "An internal fault; the message carries the request id.",
    NoWorker: "No live worker for this model, or no room for it now; see `Retry-After`.",
    DeadlinePassed: "A deadline passed.",
}

GENERATION_ERRORS = (
    InvalidRequest,
    InvalidApiKey,
    Forbidden,
    NotFound,
    BodyTooLarge,
    UnsupportedMediaType,
    QueueFull,
    WorkerFailed,
    NoWorker,
    DeadlinePassed,
)

LOOKUP_ERRORS = (InvalidApiKey, Forbidden, WorkerFailed)

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["detail", "error"],
    "properties": {
        "detail": {"type": "string"},
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        },
    },
}


def describes_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the keyword arguments of a POST route whose handler parses `model` itself."""
    body = {"required": True, "content": {"application/json": _body_content(model)}}
    return {
        "response_model": None,
        "responses": errors(*GENERATION_ERRORS)
        | {
            200: {
                "description": "The answer, or its events when `stream` is true.",
                "content": {"application/json": {}, "text/event-stream": {}},
            }
        },
        "openapi_extra": {"requestBody": body},
    }


@cache
def _body_content(model: type[BaseModel]) -> dict[str, Any]:
    """Drawing a schema takes milliseconds; many applications are made in tests."""
    schema = _inlined(model.model_json_schema())
    content: dict[str, Any] = {"schema": schema}
    examples = schema.pop("examples", [])
    if examples:
        content["example"] = examples[0]
    return content


def errors(*classes: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` argument of a route that may answer with these errors."""
    return {
        error.status: {
            "description": DESCRIPTIONS[error],
            "content": {"application/json": {"schema": ERROR_SCHEMA}},
        }
        for error in classes
    }


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Replace references to `$defs`, which would not be found inside a larger document."""
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolved(definitions[node["$ref"].rpartition("/")[2]])
        return {key: resolved(value) for key, value in node.items() if key != "x-harmless"}

    result: dict[str, Any] = resolved(schema)
    return result
