"""Text completions: their bytes, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.messages import TokenLogprob
from tests.gateway.fake_dispatch import FakeTicket, accepted, delta, done, says
from tests.gateway.serving import gateway

PATH = "/v1/completions"


async def test_a_completion_has_openais_shape() -> None:
    async with gateway(says("Once", " more")) as running:
        response = await running.client.post(PATH, json={"prompt": "Say:", "model": "m"})
        job = running.dispatch.tickets[0].job
    body = response.json()
    assert body["id"] == "cmpl-job0"
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {"index": 0, "text": "Once more", "logprobs": None, "finish_reason": "stop"}
    ]
    assert body["usage"]["total_tokens"] == 9
    assert job is not None
    assert (job.prompt, job.max_tokens, job.messages) == ("Say:", 16, [])


async def test_chunks_have_openais_shape() -> None:
    request = {"prompt": ["Say:"], "stream": True, "stream_options": {"include_usage": True}}
    async with gateway(says("Once", " more")) as running:
        text = (await running.client.post(PATH, json=request)).text
    *events, end, _ = text.split("\n\n")
    assert end == "data: [DONE]"
    chunks = [json.loads(event[6:]) for event in events]
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "text": "Once", "logprobs": None, "finish_reason": None}],
        [{"index": 0, "text": " more", "logprobs": None, "finish_reason": "stop"}],
        [],
    ]
    assert [bool(chunk["usage"]) for chunk in chunks] == [False, False, True]


async def test_log_probabilities_count_the_text_on() -> None:
    def script(ticket: FakeTicket) -> None:
        ticket.tell(accepted())
        for word in ("ab", "c"):
            entry = TokenLogprob(word, list(word.encode()), -0.5, [("x", [120], -1.0)])
            ticket.tell(delta(word, logprobs=[entry]))
        ticket.tell(delta("", finish_reason="length"), done())

    async with gateway(script) as running:
        asked = {"prompt": "Say:", "logprobs": 1}
        complete = (await running.client.post(PATH, json=asked)).json()["choices"][0]["logprobs"]
        text = (await running.client.post(PATH, json=asked | {"stream": True})).text
    assert complete == {
        "tokens": ["ab", "c"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"x": -1.0}, {"x": -1.0}],
        "text_offset": [0, 2],
    }
    chunks = [json.loads(event[6:]) for event in text.split("\n\n")[:-2]]
    assert [c["choices"][0]["logprobs"]["text_offset"] for c in chunks[:2]] == [[0], [2]]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [""]}, "prompt[0]"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": [1, "a"]}, "prompt[1]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": [2**31]}, "prompt[0]"),
        ({"prompt": [[1], []]}, "prompt[1]"),
        ({"prompt": [[1], "a"]}, "prompt[1]"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": ["a"] * 65, "n": 2}, "prompt"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"best_of": True}, "best_of"),
        ({"logprobs": 0, "echo": True}, "logprobs"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream_options": {}}, "stream_options"),
        ({"messages": ["Hi"]}, "messages"),
    ],
)
async def test_wrong_requests_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    async with gateway(says("x")) as running:
        response = await running.client.post(PATH, json={"prompt": "Hi"} | fields)
        assert running.dispatch.tickets == []
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_text_is_refused_when_only_pictures_are_answered() -> None:
    async with gateway(vision_only=True) as running:
        response = await running.client.post(PATH, json={"prompt": "Hi"})
    assert response.json()["error"]["code"] == "text_only_not_supported"
