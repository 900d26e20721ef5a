"""`GET /docs`: the API for people, as one page without any script.

The stock pages load scripts from elsewhere, which a server that is meant to work alone, and to
be trusted, does not ask of its users. Everything here is drawn from `/openapi.json`.
"""

from __future__ import annotations

import json
import re
import shlex
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse

from gateway.http.headers import origin
from gateway.status import Status

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 14px/1.4 ui-monospace, monospace; }
pre { background: #8881; padding: 1rem; overflow-x: auto; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid #8884; padding: .3rem .6rem; text-align: left; vertical-align: top; }
.refused td { opacity: .6; }
:root { color-scheme: light dark; }
"""  # noqa: E501

LONG_NUMBER = 1e6

# The examples name the address that was asked, so no cache keeps the page for another one.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}


def docs_routes(app: FastAPI, status: Status) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/docs", response_model=None)
    async def show_docs(request: Request) -> HTMLResponse:
        curl = f"curl {origin(request)}"
        if "authorization" in request.headers:
            curl = f'curl -H "Authorization: Bearer $KEY" {origin(request)}'
        model = next((model.id for model in status.models()), None)
        return HTMLResponse(page(app.openapi(), curl, model), headers=HEADERS)

    return router


def page(document: dict[str, Any], curl: str, model: str | None) -> str:
    """Return the HTML page of an OpenAPI document.

    Args:
        curl: the beginning of the examples' command, up to where the path follows.
        model: one that is served, for the examples.
    """
    info = document["info"]
    operations = [
        _operation(method, path, operation, curl, model)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>"
        f"<style>{STYLE}</style><h1>{escape(info['title'])}</h1>"
        f"<p>{_prose(info['description'])}</p>"
        "<p>Machine-readable: <a href=openapi.json>openapi.json</a></p>" + "".join(operations)
    )


def _operation(
    method: str, path: str, operation: dict[str, Any], curl: str, model: str | None
) -> str:
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>",
        f"<p>{_prose(operation.get('description', ''))}</p>",
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        parts.append(_parameters(body["schema"]))
    if body and "example" in body:
        named = {"model": model} if model and "model" in body["example"] else {}
        example = json.dumps({**body["example"], **named}, indent=2)
        parts.append(
            f"<pre>{escape(curl + path, quote=False)} \\\n"
            "  -H 'Content-Type: application/json' \\\n"
            f"  -d {escape(shlex.quote(example), quote=False)}</pre>"
        )
    answers = ", ".join(
        f"{status} ({_prose(answer['description'].rstrip('.'))})"
        for status, answer in operation["responses"].items()
    )
    parts.append(f"<p>Answers: {answers}</p>")
    return "".join(parts)


def _parameters(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = []
    for name, field in schema["properties"].items():
        support = field.get("x-support", "")
        rows.append(
            f"<tr class={escape(support) or 'plain'}><td><code>{escape(name)}</code>"
            f"<td>{'required' if name in required else escape(support)}"
            f"<td><code>{escape(_type(field))}</code><td>{_prose(field.get('description', ''))}"
        )
    head = "<tr><th>parameter<th>support<th>type<th>meaning"
    return f"<table>{head}{''.join(rows)}</table>"


def _prose(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < LONG_NUMBER else f"{value:.0f}"


def _type(field: dict[str, Any]) -> str:
    """Return a field's type and range in a few words."""
    options = field.get("anyOf") or field.get("oneOf") or [field]
    words = [_one_type(option) for option in options if option.get("type") != "null"]
    return " or ".join(dict.fromkeys(word for word in words if word))


def _one_type(option: dict[str, Any]) -> str:
    if "anyOf" in option or "oneOf" in option:
        return _type(option)
    if "enum" in option:
        return ", ".join(map(str, option["enum"]))
    low, high = option.get("minimum"), option.get("maximum")
    limits = f" {_number(low)} to {_number(high)}" if low is not None and high is not None else ""
    return str(option.get("type", "")) + limits
