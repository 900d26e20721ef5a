"""What tests ask of the scripted engine, and what it answers."""

from __future__ import annotations

import json
from typing import Any


def scripted(stream: bool = False, **script: Any) -> dict[str, Any]:
    """A request body that the scripted engine plays."""
    content = f"script: {json.dumps(script)}"
    return {"messages": [{"role": "user", "content": content}], "stream": stream}


def words(count: int) -> str:
    """What it answers with that many tokens."""
    return "".join(f"w{i} " for i in range(count))
