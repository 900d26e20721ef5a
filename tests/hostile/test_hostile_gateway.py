"""A gateway that sends a worker nonsense: each job fails alone, and another gateway's go on.

The engine is the real one with the built-in model.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

pytest.importorskip("mlx_vlm", exc_type=ImportError)

from shared.messages import (
    Accepted,
    Cancel,
    Cancelled,
    ChatMessage,
    Control,
    Deltas,
    Done,
    Failed,
    Heartbeat,
    Hello,
    ImageInfo,
    ImagePart,
    Job,
    Rejected,
    Sampling,
    Submit,
    TextPart,
    Welcome,
)
from tests.gateway.images.pictures import drawn, png_claiming, png_with_bomb
from tests.hostile.strangers import Stranger, false_gateway, where
from tests.processes import Tier

LOADING_S = 60.0
PATIENT_S = 20.0
"""A heartbeat interval that lets a gateway of the test be silent for a minute."""


@pytest.fixture(scope="module")
def gateways() -> Iterator[tuple[Stranger, Stranger]]:
    """An honest gateway and a hostile one, which share a worker."""
    with false_gateway() as honest, false_gateway() as hostile:
        both = ("--gateway", where(honest), "--gateway", where(hostile))
        worker = Tier("worker", *both, "--max-concurrency", "4")
        try:
            for number, gateway in enumerate((honest, hostile)):
                while gateway.hear(Hello, LOADING_S).state != "ready":
                    gateway.say(Welcome(gateway=f"g{number}", heartbeat_s=PATIENT_S))
                gateway.say(Welcome(gateway=f"g{number}", heartbeat_s=PATIENT_S))
            yield honest, hostile
            assert worker.process.poll() is None, worker.output()
        except BaseException:
            print(worker.output()[-4000:])
            raise
        finally:
            worker.stop()


def a_job(**fields: Any) -> dict[str, Any]:
    """A job as the wire carries it, with whatever fields on top."""
    turn = ChatMessage(role="user", content=[TextPart(text="What is the capital of France?")])
    job = Job(
        id=secrets.token_hex(8),
        answer_id="a",
        request_id="r",
        model="demo",
        stream=False,
        sampling=Sampling(seed=1, temperature=0.0),
        messages=[turn],
        max_tokens=16,
    )
    return {**msgspec.to_builtins(job), **fields}


def submit(gateway: Stranger, job: dict[str, Any], *images: bytes) -> None:
    gateway.claim(Submit, *images, job=job, budget_s=60.0)


def ending(gateway: Stranger, job_id: str) -> Done | Failed | Rejected | Cancelled:
    """How the job ended."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        message: Any = gateway.hear(object)
        if isinstance(message, Done | Failed | Rejected | Cancelled) and message.job == job_id:
            return message
    raise AssertionError("the job has not ended")


@pytest.fixture(autouse=True)
def the_honest_gateway_is_served(gateways: tuple[Stranger, Stranger]) -> Iterator[None]:
    honest, _ = gateways
    yield
    honest.say(Welcome(gateway="g0", heartbeat_s=PATIENT_S))
    job = a_job()
    submit(honest, job)
    text = ""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        message: Any = honest.hear(object)
        if isinstance(message, Deltas):
            text += "".join(delta.text for delta in message.items if delta.job == job["id"])
        if isinstance(message, Rejected) and message.job == job["id"]:
            submit(honest, job)
        if isinstance(message, Done) and message.job == job["id"]:
            break
    assert text == "The capital of France is Paris."


def info(**fields: Any) -> dict[str, Any]:
    told = ImageInfo(sha256="0" * 64, media_type="image/png", width_px=8, height_px=6)
    return {**msgspec.to_builtins(told), **fields}


def looking_at(*indexes: int) -> list[dict[str, Any]]:
    parts = [ImagePart(index=index) for index in indexes]
    turn = ChatMessage(role="user", content=[*parts, TextPart(text="What is in this image?")])
    return [msgspec.to_builtins(turn)]


PICTURES: dict[str, bytes] = {
    "garbage": b"no image at all",
    "nothing": b"",
    "a bomb": png_claiming(50_000, 50_000),
    "a text bomb": png_with_bomb(b"zTXt"),
    "a strip": drawn("PNG", (20_000, 1)),
    "a dot": drawn("PNG", (1, 1)),
    "another format": drawn("TIFF"),
}


def test_odd_pictures(gateways: tuple[Stranger, Stranger]) -> None:
    _, hostile = gateways
    for name, picture in PICTURES.items():
        job = a_job(images=[info()], messages=looking_at(0))
        submit(hostile, job, picture)
        end = ending(hostile, job["id"])
        assert isinstance(end, Done | Failed), name
        if isinstance(end, Failed):
            assert end.code in ("invalid_image", "invalid_request"), name


def sampling(**fields: Any) -> dict[str, Any]:
    return {"sampling": {"seed": 1, **fields}}


FAILS_ALONE: dict[str, dict[str, Any]] = {
    "no messages": {"messages": []},
    "an image that is not there": {"messages": looking_at(0)},
    "an image beyond the last": {"messages": looking_at(7), "images": []},
    "a bias for no token": sampling(logit_bias={2_000_000_000: 5.0}),
    "a bias against every token": sampling(logit_bias=dict.fromkeys(range(2000), -1e9)),
    "no temperature": sampling(temperature=1e-9, top_p=0.0, min_p=1.0),
    "negative rules": sampling(temperature=-5.0, top_p=-1.0, min_p=-1.0, repetition_penalty=-3.0),
    "penalties beyond reason": sampling(presence_penalty=1e9, frequency_penalty=-1e9),
    "no repetition penalty": sampling(repetition_penalty=0.0),
    "resumed with no token of this model": {"resume": [{"tokens": [2**31 - 1]}]},
    "resumed with a token just beyond": {"resume": [{"tokens": [4096]}]},
    "resumed beyond the context": {"resume": [{"tokens": [1] * 100_000}]},
    "resumed for choices it has not": {"resume": [{"tokens": [1]}] * 9},
    "resumed after its end": {"resume": [{"tokens": [1, 2], "finish_reason": "stop"}]},
    "a template of its own": {"template_options": {"messages": 5, "bos_token": [1]}},
    "a schema that is none": {"response_format": {"schema": {"type": "nothing", "$ref": "#/x"}}},
    "a schema without end": {"response_format": {"schema": {"$ref": "#"}}},
    "a pattern beyond reason": {
        "response_format": {"schema": {"type": "string", "pattern": "((a{1,999}){1,999}){1,999}"}}
    },
    "tools without tools": {"tool_policy": {"tools": [], "mode": "required", "name": "f"}},
    "marks of images without images": {"prompt": "<|image_pad|><image><|vision_start|>" * 5},
    "no tokens wanted": {"max_tokens": 0},
    "empty stops": {"stop": [""]},
    "a prompt beyond the context": {"prompt": "word " * 200_000},
}


def test_odd_jobs(gateways: tuple[Stranger, Stranger]) -> None:
    _, hostile = gateways
    for name, fields in FAILS_ALONE.items():
        job = a_job(**fields)
        submit(hostile, job)
        assert isinstance(ending(hostile, job["id"]), Done | Failed), name


MALFORMED: dict[str, dict[str, Any]] = {
    "choices beyond reason": {"choices": 10**9},
    "no choices": {"choices": 0},
    "negative length": {"max_tokens": -1},
    "negative tokens": {"resume": [{"tokens": [-1]}]},
    "no number": sampling(temperature=float("nan")),
    "an infinite one": sampling(repetition_penalty=float("inf")),
    "log probabilities of everything": {"logprobs": 10**6},
    "a negative place": {"messages": looking_at(0), "images": [info(width_px=-1)]},
}


def test_malformed_jobs_are_not_taken(gateways: tuple[Stranger, Stranger]) -> None:
    _, hostile = gateways
    for name, fields in MALFORMED.items():
        job = a_job(**fields)
        submit(hostile, job, *[b"x"] * len(job.get("images", [])))
        hostile.say(Cancel(jobs=[job["id"]]))
        assert isinstance(ending(hostile, job["id"]), Cancelled), name
    hostile.say(Welcome(gateway="g1", heartbeat_s=PATIENT_S))
    beat = hostile.hear(Heartbeat)
    assert not beat.jobs and not beat.streams


def test_orders_without_sense(gateways: tuple[Stranger, Stranger]) -> None:
    _, hostile = gateways
    for beat in (0.0, -1.0, float("nan"), 1e9):
        hostile.claim(Welcome, gateway="g1", heartbeat_s=beat)
    hostile.claim(Control, action="explode")
    hostile.claim(Hello, worker="a gateway")
    hostile.claim(Cancel, jobs=["nobody's"] * 200_000)
    for _ in range(2000):
        hostile.send(b"\x01\x02\x03", b"")
        hostile.send(b"")
    hostile.say(Cancel(jobs=["last"]))
    assert isinstance(ending(hostile, "last"), Cancelled)


def test_a_job_cannot_be_taken_over_by_its_name(gateways: tuple[Stranger, Stranger]) -> None:
    honest, hostile = gateways
    job = a_job(max_tokens=64, ignore_eos=True)
    submit(honest, job)
    assert honest.hear(Accepted).job == job["id"]
    submit(hostile, job)
    hostile.say(Cancel(jobs=[job["id"]]))
    assert isinstance(ending(hostile, job["id"]), Rejected | Cancelled)
    assert honest.hear(Done).job == job["id"]
