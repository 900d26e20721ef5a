"""The one table of request parameters: what is declared here is enforced and documented.

A request model declares each field with `honoured`, `ignored` or `refused`. `parse` enforces it:
a wrong type or range, a refused field and an unknown one are a 400 that names the field.
`parameter_table` shows the same declarations to people, at `/v1/capabilities`.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

from gateway.errors import InvalidRequest

Support = Literal["honoured", "ignored", "refused"]

TAG = "\0"
"""Starts the tag of a union's member, which is not part of a path that a client knows."""

UNKNOWN_TAG = "unknown_tag_"
"""Starts the error type of a union whose member cannot be told; the deciding key follows."""

UNSUPPORTED = "unsupported_parameter"
UNKNOWN_FIELD = "unknown_field"
EMPTY: tuple[Any, ...] = (None, "", [], {})

UNKNOWN_FIELDS = {
    "parameters": "refused by name, unless null or empty",
    "messages": "ignored in messages, their parts and their tool calls",
}
"""The rule, as `/v1/capabilities` tells it; `RequestPart` and `MessagePart` are it."""

MAX_SHOWN_CHARACTERS = 64
KINDS_FOLLOW = " one of: "


def honoured(meaning: str, **constraints: Any) -> Any:
    """A parameter that does what it says; null is the same as leaving it out."""
    return _field("honoured", meaning, **constraints)


def ignored(meaning: str, **constraints: Any) -> Any:
    """A parameter that is accepted because its absence cannot change an answer."""
    return _field("ignored", meaning, **constraints)


def refused(meaning: str, *harmless: Any) -> Any:
    """A parameter of the specification that cannot be done here.

    Args:
        harmless: the values, besides null, that ask for nothing and so are accepted.
    """
    return _field("refused", meaning, harmless=harmless)


def _check_free(value: Any) -> Any:
    """Refuse numbers that the wire to the workers cannot carry."""
    if isinstance(value, dict):
        for item in value.values():
            _check_free(item)
    elif isinstance(value, list):
        for item in value:
            _check_free(item)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise PydanticCustomError("number", "must not hold numbers beyond 64 bits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("number", "must not hold numbers that are not finite")
    return value


T = TypeVar("T")

ListOf = Annotated[list[T], Field(fail_fast=True)]
"""A list whose check ends at its first wrong item: no other is told of, and to gather the errors of
200,000 takes a second."""

MapOf = Annotated[dict[str, T], Field(fail_fast=True)]
"""Likewise an object of which every member is of one kind."""

FreeObject = Annotated[dict[str, Any], AfterValidator(_check_free)]
"""A JSON object whose content is the client's own, such as a schema."""


class RequestPart(BaseModel):
    """Any object in a request: types are not converted, unknown fields are refused by name unless
    they are null or empty, and so ask for nothing."""

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    @model_validator(mode="after")
    def _refuse(self) -> RequestPart:
        refused = _refused_fields(type(self))
        for name in self.model_fields_set & refused.keys() if refused else ():
            meaning, harmless = refused[name]
            value = getattr(self, name)
            if value is not None and not _is_one_of(value, harmless):
                raise PydanticCustomError(
                    UNSUPPORTED, "{meaning}", {"field": name, "meaning": meaning}
                )
        for name, value in (self.model_extra or {}).items():
            if value not in EMPTY:
                raise PydanticCustomError(UNKNOWN_FIELD, "{field}", {"field": name})
        return self


class MessagePart(RequestPart):
    """A message, or any object in one. Clients send back what they got, and what their framework
    noted on it: unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


def _is_one_of(value: Any, others: list[Any]) -> bool:
    """For Python 1 is True and 0 is False; for a client they are other types."""
    return any(type(value) is type(other) and value == other for other in others)


M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], body: bytes) -> M:
    """Validate a JSON body.

    Raises:
        InvalidRequest: for the first error found; `param` is the path of the field.
    """
    # In two steps: in one, each union whose member is told by a function gets a Python copy of all
    # that is in it, the messages, their content and each part. That took three times as long.
    try:
        value = from_json(body)
    except ValueError as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _as_invalid_request(error.errors(include_url=False)[0]) from None


def parameter_table(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Return one row per field of a request: name, support, type and range, meaning."""
    schema = model.model_json_schema()
    return [
        row | {"schema": _shown_schema(schema["properties"][row["name"]])} for row in _rows(model)
    ]


def message_table(model: type[BaseModel]) -> dict[str, list[dict[str, Any]]]:
    """Return, by the kind of message or part, one row per field that does nothing or is refused:
    name, support, meaning."""
    tables = {part.__name__: _rows(part) for part in _message_parts(model)}
    return {name: rows for name, rows in sorted(tables.items()) if rows}


def _rows(model: type[BaseModel]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "support": field.json_schema_extra["x-support"],
            "meaning": field.description,
        }
        for name, field in model.model_fields.items()
        if isinstance(field.json_schema_extra, dict)
    ]


def _message_parts(kind: Any) -> set[type[MessagePart]]:
    """Return what messages are made of, wherever in a type it stands."""
    inside = get_args(kind)
    found: set[type[MessagePart]] = set()
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        found |= {kind} if issubclass(kind, MessagePart) else set()
        inside = tuple(field.annotation for field in kind.model_fields.values())
    return found.union(*map(_message_parts, inside))


def path_of(steps: tuple[int | str, ...]) -> str:
    """Return `messages[0].content[1].image_url.url` for its steps."""
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith(TAG):
            path += f".{step}" if path else step
    return path


def string_or_list(value: Any) -> str | None:
    """Tell a union's members apart, for a Discriminator over the tags string and list."""
    if isinstance(value, str):
        return TAG + "string"
    return TAG + "list" if isinstance(value, list) else None


def tag_by_key(key: str, known: tuple[str, ...]) -> Any:
    """Return a discriminator that picks a union's member by the value of `key`."""

    def tag_of(value: Any) -> str | None:
        name = value.get(key) if isinstance(value, dict) else None
        return TAG + name if isinstance(name, str) and name in known else None

    names = ", ".join(known)
    return Discriminator(
        tag_of,
        custom_error_type=UNKNOWN_TAG + key,
        custom_error_message=f"must be an object whose {key} is{KINDS_FOLLOW}{names}",
    )


def _field(support: Support, meaning: str, *, harmless: Any = (), **constraints: Any) -> Any:
    extra: dict[str, Any] = {"x-support": support, "x-harmless": list(harmless)}
    constraints.setdefault("default", None)
    return Field(description=meaning, json_schema_extra=extra, **constraints)


@cache
def _refused_fields(model: type[BaseModel]) -> dict[str, tuple[str, list[Any]]]:
    found = {}
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra["x-support"] == "refused":
            found[name] = (field.description or "", list(extra["x-harmless"]))  # type: ignore[arg-type]
    return found


def _shown_schema(schema: dict[str, Any]) -> dict[str, Any]:
    hidden = ("description", "title", "x-support", "x-harmless")
    return {key: value for key, value in schema.items() if key not in hidden}


def _as_invalid_request(error: ErrorDetails) -> InvalidRequest:
    steps = error["loc"]
    context = error.get("ctx", {})
    if error["type"] in (UNSUPPORTED, UNKNOWN_FIELD):
        steps = (*steps, context["field"])
    elif error["type"].startswith(UNKNOWN_TAG) and isinstance(error["input"], dict):
        steps = (*steps, error["type"].removeprefix(UNKNOWN_TAG))
    param = path_of(steps)
    if error["type"] == UNSUPPORTED:
        return InvalidRequest(f"{param}: {error['msg']}.", param=param, code=UNSUPPORTED)
    if error["type"] in (UNKNOWN_FIELD, "extra_forbidden"):
        return InvalidRequest(
            f"Unknown parameter: {param}. See /v1/capabilities for what there is.",
            param=param,
            code=UNSUPPORTED,
        )
    if not param:
        return InvalidRequest("The request body must be a JSON object.")
    return InvalidRequest(f"{param}: {_words(error)}.", param=param)


def _unsupported_kind(error: ErrorDetails) -> str:
    """Return the words for a union's member that names a kind there is not, else nothing."""
    key = error["type"].removeprefix(UNKNOWN_TAG)
    name = error["input"].get(key) if isinstance(error["input"], dict) else None
    if not isinstance(name, str) or not name.isprintable() or len(name) > MAX_SHOWN_CHARACTERS:
        return ""
    kinds = error["msg"].partition(KINDS_FOLLOW)[2]
    return f"{name!r} is not supported here; supported: {kinds}"


def _words(error: ErrorDetails) -> str:
    """Return pydantic's message in lower case, without what only Python people know."""
    context = error.get("ctx", {})
    if error["type"].startswith(UNKNOWN_TAG):
        return _unsupported_kind(error) or error["msg"]
    if error["type"] in ("too_short", "string_too_short"):
        return "must not be empty"
    if error["type"] == "too_long":
        return f"must have at most {context['max_length']} items"
    if error["type"] in ("model_type", "dict_type"):
        return "must be an object"
    if error["type"] == "list_type":
        return "must be a list"
    message = error["msg"].rstrip(".").replace("None", "null")
    if message == "Field required":
        return "is required"
    message = message.removeprefix("Input ").removeprefix("Value ").replace("should", "must", 1)
    return message[:1].lower() + message[1:]
