"""Several prompts in one request: a job each, with a slot each, and their answers as one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from gateway.errors import ApiError
from gateway.generation import Event, GenerationRequest, Ticket
from shared.messages import Accepted, Delta, Done, Job, Timings, Usage


def reserve_each(
    request: GenerationRequest, reserve: Callable[[GenerationRequest], Ticket]
) -> Ticket:
    """Take a place for each prompt, or none at all. Raises as `reserve` does."""
    tickets: list[Ticket] = []
    try:
        for prompt in request.prompts:
            tickets.append(reserve(msgspec.structs.replace(request, prompts=[prompt])))
    except ApiError:
        for ticket in tickets:
            ticket.cancel()
        raise
    return PromptTickets(tickets, request)


class PromptTickets:
    """Implements `gateway.generation.Ticket`; choices are numbered prompt after prompt.

    Nothing is told before every prompt has been accepted: until then one that is wrong can still
    be refused.
    """

    def __init__(self, tickets: Sequence[Ticket], request: GenerationRequest) -> None:
        self.job_id = tickets[0].job_id
        self.model = tickets[0].model
        self._tickets = tickets
        self._prompts = request.prompts
        self._choices = request.choices
        self._waits: dict[int, asyncio.Task[list[Event]]] = {}
        self._accepted: set[int] = set()
        self._done: dict[int, Done] = {}
        self._held: list[Event] = []

    def submit(self, job: Job, images: Sequence[bytes]) -> None:
        for ticket, prompt in zip(self._tickets, self._prompts, strict=True):
            own = msgspec.structs.replace(job, id=ticket.job_id, answer_id=ticket.job_id)
            ticket.submit(with_prompt(own, prompt), images)

    def cancel(self) -> None:
        for wait in self._waits.values():
            wait.cancel()
        for ticket in self._tickets:
            ticket.cancel()

    async def next_events(self) -> list[Event]:
        while True:
            self._listen()
            finished, _ = await asyncio.wait(
                self._waits.values(), return_when=asyncio.FIRST_COMPLETED
            )
            for number in [n for n, wait in self._waits.items() if wait in finished]:
                self._take(number, self._waits.pop(number))
            if len(self._accepted) == len(self._tickets) and self._held:
                events, self._held = self._held, []
                return events

    def _listen(self) -> None:
        for number, ticket in enumerate(self._tickets):
            if number not in self._done and number not in self._waits:
                self._waits[number] = asyncio.create_task(ticket.next_events())

    def _take(self, number: int, news: asyncio.Task[list[Event]]) -> None:
        try:
            events = news.result()
        except ApiError as error:
            if error.param == "prompt":
                error.param = f"prompt[{number}]"
            raise
        for event in events:
            self._accepted.add(number)
            if isinstance(event, Delta):
                choice = number * self._choices + event.choice
                self._held.append(msgspec.structs.replace(event, choice=choice))
            elif isinstance(event, Accepted):
                self._held.append(event)
            else:
                self._done[number] = event
        if len(self._done) == len(self._tickets):
            self._held.append(self._together())

    def _together(self) -> Done:
        """Tokens are added; times are those of the slowest, since all ran side by side."""
        done = [self._done[number] for number in range(len(self._tickets))]
        usages = [msgspec.structs.asdict(one.usage) for one in done]
        times = [msgspec.structs.asdict(one.timings) for one in done]
        return Done(
            job=self.job_id,
            usage=Usage(**{name: sum(one[name] for one in usages) for name in usages[0]}),
            timings=Timings(**{name: max(one[name] for one in times) for name in times[0]}),
        )


def with_prompt(job: Job, prompt: str | list[int]) -> Job:
    """Return the job with this text, or these token ids, to go on from."""
    if isinstance(prompt, str):
        return msgspec.structs.replace(job, prompt=prompt, prompt_ids=[])
    return msgspec.structs.replace(job, prompt=None, prompt_ids=prompt)
