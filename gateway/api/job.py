"""What goes over the wire of a request."""

from __future__ import annotations

import os

from gateway.generation import GenerationRequest, Ticket
from shared.messages import ImageInfo, Job, Sampling

SEED_BYTES = 6
"""Every JSON reader can hold such a number."""


def to_job(
    generation: GenerationRequest, images: list[ImageInfo], ticket: Ticket, request_id: str
) -> Job:
    """Return what goes over the wire. A seed that was left open is drawn here, once, so that
    the job can be resumed elsewhere with the same one."""
    sampling = generation.sampling
    seed = sampling.seed
    if seed is None:
        seed = int.from_bytes(os.urandom(SEED_BYTES), "little")
    return Job(
        id=ticket.job_id,
        answer_id=ticket.job_id,
        request_id=request_id,
        model=ticket.model,
        stream=generation.stream,
        sampling=Sampling(
            seed=seed,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            logit_bias=sampling.logit_bias,
        ),
        messages=generation.messages,
        prompt=generation.prompt,
        continue_final_message=generation.continue_final_message,
        images=images,
        max_tokens=generation.max_tokens,
        stop=generation.stop,
        choices=generation.choices,
        logprobs=generation.logprobs,
        response_format=generation.response_format,
        tool_policy=generation.tool_policy,
        template_options=generation.template_options,
        cache_salt=generation.tenant,
        ignore_eos=generation.ignore_eos,
        echo=generation.echo,
    )
