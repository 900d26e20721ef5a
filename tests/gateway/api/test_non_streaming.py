"""Answers that are not streamed."""

from __future__ import annotations

import json

from shared.messages import TokenLogprob, ToolCallDelta
from tests.gateway.fake_dispatch import FakeTicket, accepted, delta, done, says
from tests.gateway.serving import gateway


async def test_an_answer_has_openais_shape() -> None:
    async with gateway(says("Hel", "lo", ".")) as running:
        response = await running.chat(model="org/fake")
    assert response.status_code == 200
    body = response.json()
    assert body.pop("created") > 1_700_000_000
    assert body.pop("system_fingerprint").startswith("fp_")
    assert body == {
        "id": "chatcmpl-job0",
        "object": "chat.completion",
        "model": "org/fake",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 2,
            "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "timings": {
            "preprocess_s": 0.0,
            "vision_s": 0.0,
            "prefill_s": 0.25,
            "first_token_s": 0.0,
            "decode_s": 0.0,
            "total_s": 0.5,
        },
    }


async def test_how_much_of_the_expected_answer_has_come_is_told() -> None:
    def script(ticket: FakeTicket) -> None:
        ticket.tell(accepted(), delta("Hello.", 0, finish_reason="stop"))
        ticket.tell(done(accepted_prediction_tokens=3, rejected_prediction_tokens=2))

    async with gateway(script) as running:
        response = await running.chat(prediction={"type": "content", "content": "Hello, you."})
    told = response.json()["usage"]["completion_tokens_details"]
    assert (told["accepted_prediction_tokens"], told["rejected_prediction_tokens"]) == (3, 2)


async def test_each_choice_has_its_own_text_and_end() -> None:
    def script(ticket: FakeTicket) -> None:
        ticket.tell(accepted(), delta("a", 0), delta("b", 1))
        ticket.tell(delta("A", 0, finish_reason="length"), delta("B", 1, finish_reason="stop"))
        ticket.tell(done())

    async with gateway(script) as running:
        choices = (await running.chat(n=2)).json()["choices"]
    assert [c["message"]["content"] for c in choices] == ["aA", "bB"]
    assert [c["finish_reason"] for c in choices] == ["length", "stop"]
    assert [c["index"] for c in choices] == [0, 1]


async def test_tool_calls_reasoning_and_logprobs() -> None:
    logprob = TokenLogprob("é", [195, 169], -0.5, [("e", [101], -1.5)])

    def script(ticket: FakeTicket) -> None:
        ticket.tell(accepted(), delta(reasoning="Let me "), delta(reasoning="see."))
        ticket.tell(delta("é", logprobs=[logprob]))
        ticket.tell(delta(tool_calls=[ToolCallDelta(0, "", "call_1", "find")]))
        ticket.tell(delta(tool_calls=[ToolCallDelta(0, '{"a"')]))
        ticket.tell(delta(tool_calls=[ToolCallDelta(0, ":1}")], finish_reason="tool_calls"))
        ticket.tell(done())

    tools = [{"type": "function", "function": {"name": "find"}}]
    async with gateway(script) as running:
        body = (await running.chat(logprobs=True, top_logprobs=1, tools=tools)).json()
    choice = body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "é",
        "refusal": None,
        "reasoning_content": "Let me see.",
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "find", "arguments": '{"a":1}'},
            }
        ],
    }
    assert choice["logprobs"] == {
        "content": [
            {
                "token": "é",
                "logprob": -0.5,
                "bytes": [195, 169],
                "top_logprobs": [{"token": "e", "logprob": -1.5, "bytes": [101]}],
            }
        ],
        "refusal": None,
    }


async def test_an_answer_of_tool_calls_alone_has_null_content() -> None:
    def script(ticket: FakeTicket) -> None:
        call = ToolCallDelta(0, "{}", "call_1", "find")
        ticket.tell(accepted(), delta(tool_calls=[call], finish_reason="tool_calls"), done())

    tools = [{"type": "function", "function": {"name": "find"}}]
    async with gateway(script) as running:
        message = (await running.chat(tools=tools)).json()["choices"][0]["message"]
    assert message["content"] is None


async def test_a_seed_is_drawn_when_none_was_given() -> None:
    async with gateway(says("a")) as running:
        for fields in ({"seed": 5}, {}, {}):
            await running.chat(**fields)
        jobs = [ticket.job for ticket in running.dispatch.tickets]
    seeds = [job.sampling.seed for job in jobs if job is not None]
    assert seeds[0] == 5
    assert len(set(seeds)) == 3


async def test_the_job_carries_what_was_asked() -> None:
    async with gateway(says("a")) as running:
        response = await running.chat(
            temperature=0.5,
            top_p=0.9,
            top_k=5,
            min_p=0.1,
            repetition_penalty=1.1,
            presence_penalty=0.2,
            frequency_penalty=0.3,
            logit_bias={"17": -100},
            max_completion_tokens=9,
            stop=["x", "y"],
            n=2,
            logprobs=True,
            reasoning_effort="none",
            chat_template_kwargs={"colour": "red"},
            prediction={"type": "content", "content": [{"type": "text", "text": "Three."}]},
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "s", "schema": {"type": "object"}},
            },
            messages=[
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Go on:"}]},
                {"role": "assistant", "content": "One, two,"},
            ],
        )
        job = running.dispatch.tickets[0].job
    assert response.status_code == 200
    assert job is not None
    assert [message.role for message in job.messages] == ["system", "user", "assistant"]
    assert job.continue_final_message
    assert job.prediction == "Three."
    assert (job.max_tokens, job.stop, job.choices, job.logprobs) == (9, ["x", "y"], 2, 0)
    assert job.sampling.logit_bias == {17: -100.0}
    assert (job.sampling.temperature, job.sampling.top_k) == (0.5, 5)
    assert job.template_options == {
        "colour": "red",
        "reasoning_effort": "none",
        "enable_thinking": False,
    }
    assert job.response_format is not None
    assert job.response_format.schema == {"type": "object"}
    json.dumps(response.json())
