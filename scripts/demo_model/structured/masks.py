"""What the server lets the model say, token by token.

Of what a grammar forces there is nothing to learn. So the model learns to choose among those tokens
alone between which the server, too, lets it choose.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from shared.messages import Job, ResponseFormat, Sampling, Tool, ToolPolicy
from worker.engine.prepare.grammar import GrammarMaker


class AnswerMasks:
    """The masks of one tokenizer's answers."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vocabulary: int) -> None:
        ends = frozenset({tokenizer.eos_token_id})
        self._maker = GrammarMaker(tokenizer, vocabulary, ends)

    def of(self, request: dict[str, Any], tokens: list[int]) -> NDArray[np.bool_] | None:
        """(tokens, vocabulary): what may stand in each token's place; None: anything.

        Raises:
            ValueError: the answer is not in the form that the request demands.
        """
        state = self._maker.make(job_of(request))
        if state is None:
            return None
        masks = []
        for token in tokens:
            mask = state.mask()
            if mask is None or not mask[token]:
                raise ValueError(f"token {token} is not in the demanded form of {request}")
            masks.append(mask)
            state.accept(token)
        return np.stack(masks)


def job_of(request: dict[str, Any]) -> Job:
    """As the gateway would send it, without its conversation."""
    form, policy = None, None
    if "response_format" in request:
        form = ResponseFormat(schema=request["response_format"]["json_schema"]["schema"])
    if "tools" in request:
        choice = request.get("tool_choice", "auto")
        policy = ToolPolicy(
            tools=[Tool(**tool["function"]) for tool in request["tools"]],
            mode="auto" if choice == "auto" else "required",
            name=None if isinstance(choice, str) else choice["function"]["name"],
            parallel=request.get("parallel_tool_calls", True),
        )
    return Job(
        id="",
        answer_id="",
        request_id="",
        model="",
        stream=False,
        sampling=Sampling(seed=0),
        response_format=form,
        tool_policy=policy,
    )
