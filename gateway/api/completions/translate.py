"""From a text completion request to the one record that all dialects are translated into."""

from __future__ import annotations

from gateway.api.common.conversation import ImageRules
from gateway.api.common.parameters import UNSUPPORTED
from gateway.api.common.sampling import token_limit
from gateway.api.completions.models import DEFAULT_MAX_TOKENS, MAX_ANSWERS, CompletionRequest
from gateway.errors import InvalidRequest
from gateway.generation import GenerationRequest


def to_generation(body: CompletionRequest, rules: ImageRules, tenant: str) -> GenerationRequest:
    """Raises InvalidRequest for what only shows when fields are seen together."""
    _check_combinations(body)
    if rules.vision_only:
        raise InvalidRequest(
            "This server answers only requests with an image (--vision-only); "
            "use /v1/chat/completions.",
            param="prompt",
            code="text_only_not_supported",
        )
    return GenerationRequest(
        route="/v1/completions",
        model=body.model or None,
        stream=bool(body.stream),
        prompts=_prompts(body),
        sampling=body.sampling(),
        max_tokens=token_limit(body.max_tokens or DEFAULT_MAX_TOKENS),
        stop=body.stops(),
        choices=body.n or 1,
        logprobs=body.logprobs,
        ignore_eos=bool(body.ignore_eos),
        echo=bool(body.echo),
        tenant=tenant,
        idle_unload_s=body.ttl,
    )


def _check_combinations(body: CompletionRequest) -> None:
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest(
            "stream_options: is only allowed when stream is true.", param="stream_options"
        )
    if body.echo and body.logprobs is not None:
        raise InvalidRequest(
            "logprobs: the probabilities of an echoed prompt are not computed; "
            "leave echo or logprobs out.",
            param="logprobs",
            code=UNSUPPORTED,
        )


def _prompts(body: CompletionRequest) -> list[str | list[int]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    prompts = [list(prompt)] if isinstance(prompt[0], int) else list(prompt)
    if len(prompts) * (body.n or 1) > MAX_ANSWERS:
        raise InvalidRequest(
            f"prompt: at most {MAX_ANSWERS} answers are given to one request; it asks for "
            f"{len(prompts)} times {body.n or 1}.",
            param="prompt",
        )
    return prompts  # type: ignore[return-value]
