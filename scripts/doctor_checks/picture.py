"""Ask the service about a picture: is there an answer, where did its time go, and what is slow?"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

from scripts.doctor_checks.findings import Finding, fine, note, wrong
from scripts.doctor_checks.service import Service, reason
from scripts.installation import project_file

EXAMPLE = project_file("docs/example.png")
ANSWER_S = 300.0

READING_PACE = 7.0
"""Tokens a second; what comes slower keeps a reader waiting (about 300 words a minute)."""

SLOW_S = 3.0
"""For the picture alone, or for the prompt."""

SMALLER = "Take a smaller or a 4-bit model, and look what else uses the GPU (Activity Monitor)."


def ask_about_a_picture(service: Service) -> Iterator[Finding]:
    url = f"data:image/png;base64,{base64.b64encode(EXAMPLE.read_bytes()).decode()}"
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "What is in this image?"},
    ]
    body: dict[str, Any] = {"messages": [{"role": "user", "content": content}], "max_tokens": 64}
    model = model_to_ask(service.ask("/v1/models")[1].get("data", []))
    if model is not None:
        body["model"] = model
    started = time.monotonic()
    status, answer = service.ask("/v1/chat/completions", body, ANSWER_S)
    if status != 200:
        yield wrong(f"A picture was not answered: {reason(answer)}", "Read the worker's log.")
        return
    said = answer["choices"][0]["message"]["content"]
    yield fine(f"A picture was answered{f' by {model}' if model else ''}: {said}")
    tokens = answer["usage"]["completion_tokens"]
    yield from judge(time.monotonic() - started, tokens, answer["timings"])


def model_to_ask(models: list[dict[str, Any]]) -> str | None:
    """Of several the one that answers soonest and can see, as far as that is known; None: there is
    none to choose from."""
    named = [model for model in models if model["id"] not in model["aliases"]]
    if len(named) < 2:
        return None

    def rank(model: dict[str, Any]) -> tuple[bool, bool, bool]:
        status, sees = model["status"]["value"], model["capabilities"]["vision"]
        return sees is False, status == "failed", status != "loaded"

    return str(min(named, key=rank)["id"])


def judge(total_s: float, tokens: int, timings: dict[str, Any]) -> Iterator[Finding]:
    """Say where an answer's time went.

    Args:
        total_s: as the client saw it.
        tokens: of the answer.
        timings: seconds, as the answer has them.
    """
    picture_s = timings["preprocess_s"] + timings["vision_s"]
    prompt_s, decode_s = timings["prefill_s"], timings["decode_s"]
    pace = (tokens - 1) / decode_s if decode_s > 0 else float("inf")
    yield fine(
        f"It took {total_s:.2f} s: picture {picture_s:.2f}, prompt {prompt_s:.2f}, "
        f"{tokens} tokens {decode_s:.2f}, the way there and back {total_s - timings['total_s']:.2f}"
    )
    if picture_s > SLOW_S:
        yield note("Looking at the picture is slow.", "Send smaller pictures, or: " + SMALLER)
    if prompt_s > SLOW_S:
        yield note("Reading the prompt is slow.", SMALLER)
    if pace < READING_PACE:
        yield note(f"{pace:.1f} tokens a second is slower than people read.", SMALLER)
