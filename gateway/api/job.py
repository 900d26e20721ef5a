"""What goes over the wire of a request."""

from __future__ import annotations

from gateway.generation import GenerationRequest, Ticket
from shared.messages import ImageInfo, Job


def to_job(
    generation: GenerationRequest, images: list[ImageInfo], ticket: Ticket, request_id: str
) -> Job:
    return Job(
        id=ticket.job_id,
        answer_id=ticket.job_id,
        request_id=request_id,
        model=ticket.model,
        stream=generation.stream,
        sampling=generation.sampling,
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
