"""What every client is asked, and how a program tells what came of it.

The programs beside this run in environments of their own, with the packages that their first lines
name, so they share this file alone:

    python use_NAME.py BASE_URL MODEL PICTURE

prints one JSON object, with an entry for each trial. Each asks as that client's documents show it.
"""

import asyncio
import base64
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

BASE_URL, MODEL, PICTURE = sys.argv[1:4]
API_KEY = "any"
CAPITAL = "What is the capital of France?"
COUNT = "How many shapes are there?"
PICTURE_BYTES = Path(PICTURE).read_bytes()
PICTURE_URL = f"data:image/png;base64,{base64.b64encode(PICTURE_BYTES).decode()}"
TOO_HOT = 9.0
"""A temperature that is refused."""
ENOUGH_TOKENS = 120

called: list[str] = []
"""What the tool has been called with."""


def get_capital(country: Literal["France", "Japan"]) -> str:
    """Look up the capital of a country.

    Args:
        country: The country's name.
    """
    called.append(country)
    return "Paris"


def used_tool(answer: str) -> dict[str, Any]:
    """Return what a tool's round trip tells: its calls, and what was said in the end."""
    return {"called": called, "answer": answer}


def tell(**trials: Callable[[], Any]) -> None:
    """Run each trial and print what came of all; a trial that raises tells what."""
    print(json.dumps({name: _outcome(trial) for name, trial in trials.items()}))


def _outcome(trial: Callable[[], Any]) -> Any:
    try:
        result = trial()
        return asyncio.run(result) if inspect.iscoroutine(result) else result
    except Exception as error:  # each client has exceptions of its own, and all are an outcome
        return {"raised": type(error).__name__, "message": str(error)}
