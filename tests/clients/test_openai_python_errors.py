"""`openai` for Python: errors are the client's own classes, and its retries are told when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.clients.asking import CAPITAL, MODEL, text
from tests.processes import Service, Tier
from tests.scripted import scripted
from tests.waiting import await_condition, free_port

BROKEN_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.fixture
def api(base_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        yield client


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 9}, "temperature"),
        ({"messages": []}, "messages"),
        ({"n": 0}, "n"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"extra_body": {"temprature": 1}}, "temprature"),
        (
            {"messages": [{"role": "user", "content": [BROKEN_IMAGE]}]},
            "messages[0].content[0].image_url.url",
        ),
    ],
)
def test_a_wrong_request_names_its_field(api: OpenAI, change: dict[str, Any], param: str) -> None:
    request: dict[str, Any] = {"model": MODEL, "messages": text(CAPITAL), **change}
    with pytest.raises(openai.BadRequestError) as caught:
        api.chat.completions.create(**request)
    assert caught.value.param == param
    assert caught.value.code
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id


def test_an_unknown_model(api: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        api.chat.completions.create(model="gpt-4o", messages=text(CAPITAL))
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        api.models.retrieve("gpt-4o")


@pytest.fixture
def guarded() -> Iterator[str]:
    """The base URL of a gateway that wants a key and has no worker."""
    port, endpoint = free_port(), f"tcp://127.0.0.1:{free_port()}"
    flags = ("--host", "127.0.0.1", "--port", str(port), "--bind", endpoint)
    tier = Tier("gateway", *flags, "--api-key", "secret")
    try:
        await_condition(lambda: answers(f"http://127.0.0.1:{port}/health"), "the gateway listens")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        tier.stop()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def test_a_wrong_key(guarded: str) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        OpenAI(base_url=guarded, api_key="wrong").models.list()
    assert caught.value.code == "invalid_api_key"


def test_no_worker(guarded: str) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(OpenAI(base_url=guarded, api_key="secret", max_retries=0))
    assert caught.value.code == "no_worker"
    assert "Retry-After" in caught.value.response.headers


def ask(api: OpenAI, **script: Any) -> Any:
    body = scripted(**script)
    return api.chat.completions.create(model="", **body)


def occupy(service: Service, api: OpenAI, until: Callable[[], bool]) -> Any:
    """Take the only stream slot; returns the stream that holds it."""
    stream = ask(api, stream=True, tokens=1000, delay_s=0.01)
    next(iter(stream))
    await_condition(until, "the slot is taken")
    return stream


def test_a_full_server_and_a_retry_after_what_it_said(narrow: Service) -> None:
    def taken() -> bool:
        return bool(narrow.get("/v1/queue/stats")["queue_stats"]["active_requests"])

    attempts: list[int] = []
    streams: list[Any] = []

    def on_response(response: Any) -> None:
        """Note each status; the first 429 after the second stream ends that."""
        if len(streams) == 2:
            attempts.append(response.status_code)
            if response.status_code == 429:
                streams[1].close()

    heard = openai.DefaultHttpxClient(event_hooks={"response": [on_response]})
    url = f"{narrow.url}/v1"
    with OpenAI(base_url=url, api_key="any", max_retries=0, http_client=heard) as api:
        streams.append(occupy(narrow, api, taken))
        with pytest.raises(openai.RateLimitError) as caught:
            ask(api, stream=True, tokens=1)
        assert caught.value.code == "queue_full"
        told_s = int(caught.value.response.headers["Retry-After"])
        streams[0].close()
        await_condition(lambda: not taken(), "the slot is free")
        streams.append(occupy(narrow, api, taken))
        started_at = time.monotonic()
        retrying = api.with_options(max_retries=2)
        assert list(ask(retrying, stream=True, tokens=1))
    assert attempts == [429, 200]
    assert time.monotonic() - started_at >= min(told_s, 1)


def test_a_failure_in_mid_stream_is_raised(narrow: Service) -> None:
    with (
        OpenAI(base_url=f"{narrow.url}/v1", api_key="any", max_retries=0) as api,
        pytest.raises(openai.APIError, match="The script says: fail") as caught,
    ):
        list(ask(api, stream=True, tokens=8, at=4, delay_s=0.01, fault="fail"))
    assert caught.value.code == "worker_failed"
