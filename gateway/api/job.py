"""What goes over the wire of a request."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import msgspec

from gateway.api.prompts import with_prompt
from gateway.generation import GenerationRequest, Ticket
from shared.messages import ChatMessage, ImageInfo, ImagePart, Job, TextPart


def to_job(
    generation: GenerationRequest, images: list[list[ImageInfo]], ticket: Ticket, request_id: str
) -> Job:
    """
    Args:
        images: of each image source: one, or the pages of a document.
    """
    job = Job(
        id=ticket.job_id,
        answer_id=ticket.job_id,
        request_id=request_id,
        model=ticket.model,
        stream=generation.stream,
        sampling=generation.sampling,
        messages=_with_pages(generation.messages, [len(pages) for pages in images]),
        continue_final_message=generation.continue_final_message,
        images=[
            msgspec.structs.replace(info, longest_side_px=source.longest_side_px)
            for source, pages in zip(generation.images, images, strict=True)
            for info in pages
        ],
        min_pixels=generation.min_pixels,
        max_pixels=generation.max_pixels,
        max_tokens=generation.max_tokens,
        stop=generation.stop,
        choices=generation.choices,
        logprobs=generation.logprobs,
        response_format=generation.response_format,
        tool_policy=generation.tool_policy,
        template_options=generation.template_options,
        cache_salt=generation.tenant,
        ignore_eos=generation.ignore_eos,
        prediction=generation.prediction,
        echo=generation.echo,
    )
    return with_prompt(job, generation.prompts[0]) if generation.prompts else job


def _with_pages(turns: list[ChatMessage], pages: list[int]) -> list[ChatMessage]:
    """Put all pages of a document where the one part stands that the client sent."""
    if all(count == 1 for count in pages):
        return turns
    first = [0, *accumulate(pages)]

    def paged(parts: list[TextPart | ImagePart]) -> Iterator[TextPart | ImagePart]:
        for part in parts:
            if isinstance(part, ImagePart):
                yield from map(ImagePart, range(first[part.index], first[part.index + 1]))
            else:
                yield part

    return [msgspec.structs.replace(turn, content=list(paged(turn.content))) for turn in turns]
