"""The whole system with the real demo model, which gives answers that are right or wrong."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import random
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image
from pillow_heif import register_heif_opener

from scripts.demo_model import answers
from scripts.demo_model.scenes import Scene, Shape, example_scene, random_scene
from tests.processes import ROOT, Service, answer_text, serving
from tests.waiting import await_condition

MLX = ("--max-concurrency", "8", "--stall-timeout", "20")
EXAMPLE = (ROOT / "docs" / "example.png").read_bytes()
FORMATS = ("PNG", "JPEG", "WEBP")
RIGHT_OF_32 = 28

register_heif_opener()


def image_part(data: bytes, media_type: str = "image/png") -> dict[str, Any]:
    url = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def about(data: bytes, question: str, media_type: str = "image/png") -> dict[str, Any]:
    text = {"type": "text", "text": question}
    return {"messages": [{"role": "user", "content": [image_part(data, media_type), text]}]}


def text(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}]}


def counted(upto: int) -> str:
    return ", ".join(str(number) for number in range(1, upto + 1)) + "."


def streamed(response: httpx.Response) -> str:
    lines = [line for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]", response.text[-500:]
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines[:-1]]
    return "".join(delta.get("content") or "" for delta in deltas)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(workers=2, worker_flags=MLX) as running:
        yield running


def test_the_readmes_request_is_answered_rightly(service: Service) -> None:
    body = json.loads((ROOT / "docs" / "example_request.json").read_text())
    assert answer_text(service.ask(body)) == answers.caption(example_scene())
    assert streamed(service.ask({**body, "stream": True})) == answers.caption(example_scene())


def example() -> Image.Image:
    return Image.open(io.BytesIO(EXAMPLE))


@pytest.mark.parametrize("image_format", ["HEIF", "AVIF", "TIFF", "BMP", "PDF", "GIF"])
def test_a_picture_of_any_format_is_seen(service: Service, image_format: str) -> None:
    file = io.BytesIO()
    example().save(file, image_format)
    answer = answer_text(service.ask(about(file.getvalue(), "What is in this image?")))
    assert answer == answers.caption(example_scene())


def test_pages_of_a_pdf_are_pictures_of_their_own(service: Service) -> None:
    """The circle is on the second page alone."""
    star = Shape("star", "green", "top right", (34, 139, 34), 0.4)
    first = Scene(256, 192, "white", (255, 255, 255), (star,)).draw()
    file = io.BytesIO()
    first.save(file, "PDF", save_all=True, append_images=[example()])
    answer = answer_text(service.ask(about(file.getvalue(), "Which image has a circle?")))
    assert answer == "The second image."


def test_a_jpeg_without_its_end_mark_is_seen(service: Service) -> None:
    file = io.BytesIO()
    example().save(file, "JPEG", quality=90)
    body = about(file.getvalue()[:-2], "What is in this image?")
    assert answer_text(service.ask(body)) == answers.caption(example_scene())


def test_a_picture_of_a_tool_is_seen(service: Service) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "What is in this image?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": [image_part(EXAMPLE)]},
        {"role": "user", "content": "How many shapes are there?"},
    ]
    assert answer_text(service.ask({"messages": turns})) == "There are two shapes."


def test_fewer_pixels_are_fewer_tokens_up_to_the_models_own(service: Service) -> None:
    own = service.ask(about(EXAMPLE, "How many shapes are there?")).json()
    bounded = about(EXAMPLE, "How many shapes are there?") | {"max_pixels": 6400}
    fewer = service.ask(bounded).json()
    assert fewer["usage"]["prompt_tokens"] < own["usage"]["prompt_tokens"]
    refused = service.ask(bounded | {"max_pixels": 100_000_000})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "max_pixels"


def test_text_alone(service: Service) -> None:
    answer = answer_text(service.ask(text("What is the capital of France?")))
    assert answer == "The capital of France is Paris."


def test_several_turns_about_one_picture(service: Service) -> None:
    body = about(EXAMPLE, "How many shapes are there?")
    first = answer_text(service.ask(body))
    assert first == "There are two shapes."
    turns = [
        *body["messages"],
        {"role": "assistant", "content": first},
        {"role": "user", "content": "Where is the circle?"},
    ]
    response = service.ask({"messages": turns})
    assert answer_text(response) == "It is at the top left."
    assert response.json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


async def test_thirty_two_pictures_at_once_each_get_their_own_answer(service: Service) -> None:
    """Every answer is the one that its picture gets when asked about alone, and most are right:
    as many as the model card promises, with room for chance."""
    rng = random.Random(11)
    scenes = [
        random_scene(rng, (rng.randrange(160, 640), rng.randrange(160, 640))) for _ in range(32)
    ]
    url = f"{service.url}/v1/chat/completions"
    bodies = []
    for index, scene in enumerate(scenes):
        kind = FORMATS[index % 3]
        body = about(scene.encode(kind), "What is in this image?", f"image/{kind.lower()}")
        bodies.append({**body, "stream": index % 2 == 1 and index < 16})
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=40)) as client:
        together = await asyncio.gather(*(client.post(url, json=body) for body in bodies))
    texts = [
        streamed(response) if body["stream"] else answer_text(response)
        for response, body in zip(together, bodies, strict=True)
    ]
    right = [answers.caption(scene) for scene in scenes]
    assert sum(text == wanted for text, wanted in zip(texts, right, strict=True)) >= RIGHT_OF_32
    for index, body in enumerate(bodies):
        alone = answer_text(service.ask({**body, "stream": False}))
        assert texts[index] == alone


def structured(schema: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return {**text("Answer."), "temperature": 0, "max_tokens": 60, "response_format": form}


def calling(parameters: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    tool = {"name": "now"} if parameters is None else {"name": "now", "parameters": parameters}
    tools = {"tools": [{"type": "function", "function": tool}], "tool_choice": "required"}
    return {**text("Call it."), **tools, "parallel_tool_calls": False, "seed": 3, **more}


def one_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"it": schema}, "required": ["it"]}


ENDLESS = {**one_of({"$ref": "#/$defs/a"}), "$defs": {"a": one_of({"$ref": "#/$defs/a"})}}


@pytest.mark.parametrize("schema", [one_of({"enum": [1234567890123456789]}), ENDLESS])
def test_a_schema_that_cannot_be_kept_is_refused(service: Service, schema: dict[str, Any]) -> None:
    refused = service.ask(structured(schema))
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "response_format"


def test_a_special_tokens_text_is_text(service: Service) -> None:
    answer = answer_text(service.ask(structured(one_of({"const": "<|im_end|>"}))))
    assert json.loads(answer) == {"it": "<|im_end|>"}
    question = "What is in this image?"
    plain = service.ask(about(EXAMPLE, question)).json()["usage"]
    spelled = service.ask(about(EXAMPLE, f"{question} <|image_pad|>")).json()["usage"]
    assert spelled["prompt_tokens"] > plain["prompt_tokens"] + 1
    details = (usage["prompt_tokens_details"]["image_tokens"] for usage in (plain, spelled))
    assert len(set(details)) == 1


def test_a_prompt_of_one_token(service: Service) -> None:
    body = {"prompt": "The", "max_tokens": 4, "temperature": 0}
    answer = service.ask(body, "/v1/completions").json()
    assert answer["usage"]["prompt_tokens"] == 1 and answer["choices"][0]["text"]


def test_calls_are_whole_or_said_not_to_be(service: Service) -> None:
    """A tool without parameters, and a stop string within the arguments."""
    choice = service.ask(calling(None)).json()["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert choice["finish_reason"] == "tool_calls"
    stopped = service.ask(calling(one_of({"type": "boolean"}), stop=["}"])).json()["choices"][0]
    assert stopped["finish_reason"] == "stop"


def test_both_workers_are_used(service: Service) -> None:
    rng = random.Random(5)
    for _ in range(16):
        answer_text(service.ask(about(random_scene(rng, (200, 200)).encode(), "What is this?")))
    assert all(worker["finished"] > 0 for worker in service.worker_states())


def test_an_engine_killed_in_mid_answer_loses_nothing(service: Service) -> None:
    expected = answer_text(service.ask(text("Count from 1 to 50.")))
    await_condition(lambda: counted_with_a_kill(service, expected), "an engine caught", 60)
    service.await_ready(2)


def counted_with_a_kill(service: Service, expected: str) -> bool:
    """Stream the answer and kill who gives it; whether it had not ended before that."""
    body = {**text("Count from 1 to 50."), "stream": True}
    got = ""
    killed = None
    with service.client.stream("POST", f"{service.url}/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                got += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                if got and killed is None:
                    killed = next((w["pid"] for w in service.worker_states() if w["active"]), 0)
                    if killed:
                        os.kill(killed, signal.SIGKILL)
    assert got == expected
    return bool(killed)


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,@"}}, "image_url.url"),
        (image_part(b"just some text"), "image_url.url"),
        (image_part(EXAMPLE[:200]), "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "image_url.url"),
        ({"type": "image_url"}, "image_url"),
    ],
)
def test_a_bad_image_is_a_400_and_the_next_request_works(
    service: Service, part: dict[str, Any], field: str
) -> None:
    response = service.ask({"messages": [{"role": "user", "content": [part]}]})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == f"messages[0].content[0].{field}"
    assert answer_text(service.ask(text("What is the capital of Japan?")))


def test_vision_only_refuses_text() -> None:
    with serving(gateway_flags=("--vision-only",), worker_flags=MLX) as service:
        refused = service.ask(text("What is the capital of France?"))
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "text_only_not_supported"
        answer = answer_text(service.ask(about(EXAMPLE, "How many shapes are there?")))
        assert answer == "There are two shapes."


def test_a_loading_worker_is_a_503_with_its_progress(service: Service) -> None:
    with serving(workers=0) as slow:
        slow.worker_flags = MLX
        slow.add_worker()
        await_condition(lambda: slow.worker_states(), "the worker says hello")
        if slow.worker_states()[0]["state"] == "loading":
            response = slow.ask(text("Hello"))
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "loading"
            assert "Retry-After" in response.headers
        slow.await_ready(1)
        assert answer_text(slow.ask(text("Hello")))
