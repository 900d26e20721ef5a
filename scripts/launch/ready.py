"""When the server that was started can be asked, and the line that says so."""

from __future__ import annotations

import json
import shlex
import urllib.request
from http.client import HTTPException
from typing import Any

from scripts.installation import project_file

EXAMPLE = project_file("docs/example_request.json")
LOOK_S = 2.0


class OwnGateway:
    """The gateway at an address of this machine.

    Args:
        key: an API key, where it wants one.
    """

    def __init__(self, address: str, key: str | None) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Never through a proxy: the address is one of this machine's.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def is_ready(self) -> bool:
        return self._get("/ready") is not None

    def model_to_name(self) -> str | None:
        """One that a request may name; None where it need not, since there is no other."""
        listed = (self._get("/v1/models") or {}).get("data", [])
        names = [model["id"] for model in listed if model["id"] not in model["aliases"]]
        return names[0] if len(names) > 1 else None

    def _get(self, path: str) -> dict[str, Any] | None:
        request = urllib.request.Request(self._address + path, headers=self._headers)
        try:
            with self._opener.open(request, timeout=LOOK_S) as answer:
                return dict(json.load(answer)) if answer.status == 200 else None
        except (OSError, HTTPException, ValueError):
            return None


def ready_line(address: str, *, wants_key: bool, seconds: float, model: str | None = None) -> str:
    """Where to look, and a command to copy that is answered rightly."""
    url = shlex.quote(f"{address}/v1/chat/completions")
    key = ' -H "Authorization: Bearer $KEY"' if wants_key else ""
    body = f"@{EXAMPLE}" if model is None else json.dumps(_greeting(model))
    return (
        f"Ready after {seconds:.1f} s: open {address} in a browser, or try: curl -s {url}{key} "
        f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )


def _greeting(model: str) -> dict[str, Any]:
    """A text: who can see among several models is known when they are loaded."""
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
