"""A job as the gateway knows it, from its admission to its end.

    PREPARING ──submit──▶ READY ──dispatch──▶ DISPATCHED ──accepted──▶ RUNNING ──▶ OVER
                            ▲                     │                       │
                            └──── rejected, worker lost, gap in deltas ───┘

A job leaves any state for OVER when it is done, fails, is cancelled or passes its deadline.
Apart from its phase a job either holds a slot of its pool (`active`) or waits for one; images are
fetched in both cases, so that a job is usually READY by the time its slot comes free. A job that
only counts its prompt's tokens goes the same way; it needs no slot, and its end is the number.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from shared.messages import Delta, FinishReason, Job, Resume, Timings, Usage

MAX_DEATHS = 2
"""A job that two workers have died of is not given to a third."""

MAX_FRUITLESS_RUNS = 10
"""Runs in a row that are given up, whatever the reason: a worker that keeps no rule must not take
the same job again and again until its deadline."""

FRUITFUL_AFTER_S = 5.0
"""A run that has gone so long and brought tokens was not in vain. A token alone is no sign of that:
a worker that brings one a run can have thousands of runs a second."""

MAX_ANSWER_CHARACTERS = 16_000_000
MAX_ANSWER_TOKENS = 4_000_000
"""What one job may bring, all its choices together: more than any context holds."""

CLAIM_S = 1.0
"""For so long after its arrival a job keeps a slot whose pictures are not there. Most are by then;
what holds a slot for longer would keep it idle while somebody who is ready waits."""

MAX_COUNT_RUNS = 2
"""The same for a prompt whose tokens are only counted, a worker's death included."""

Outcome = Literal["finished", "failed", "cancelled", "timed_out"]

Kind = Literal["non_streaming", "streaming", "counting"]
"""What a job needs of a worker: one of its slots, one of its stream slots, or (when it only counts
its prompt's tokens) a moment beside both."""

KINDS: tuple[Kind, ...] = get_args(Kind)


class Phase(enum.Enum):
    # Each member is one object. Enum's own hash is a call in Python, a dozen for each request.
    __hash__ = object.__hash__

    PREPARING = "fetching images"
    READY = "waiting for a worker"
    DISPATCHED = "handed to a worker"
    RUNNING = "generating"
    OVER = "over"


LEGAL_MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.PREPARING: frozenset({Phase.READY, Phase.OVER}),
    Phase.READY: frozenset({Phase.DISPATCHED, Phase.OVER}),
    Phase.DISPATCHED: frozenset({Phase.RUNNING, Phase.READY, Phase.OVER}),
    Phase.RUNNING: frozenset({Phase.READY, Phase.OVER}),
    Phase.OVER: frozenset(),
}


class ChoiceProgress(msgspec.Struct):
    """All token ids one choice has produced so far, whichever workers made them."""

    tokens: list[int] = []
    finish_reason: FinishReason | None = None
    characters: int = 0
    words: int = 0
    in_word: bool = False

    def absorb(self, delta: Delta) -> None:
        self.tokens += delta.tokens
        self.finish_reason = delta.finish_reason
        if delta.reasoning:
            self._count(delta.reasoning)
        if delta.text:
            self._count(delta.text)

    def _count(self, text: str) -> None:
        """`text`: not empty."""
        continues = self.in_word and not text[0].isspace()
        self.words += len(text.split()) - continues
        self.in_word = not text[-1].isspace()
        self.characters += len(text)


class Milestones(msgspec.Struct):
    """Monotonic clock readings, None until it has happened."""

    arrived_at: float
    slot_at: float | None = None
    submitted_at: float | None = None
    dispatched_at: float | None = None
    accepted_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    over_at: float | None = None


class Whereabouts(msgspec.Struct, frozen=True):
    """Where a job was when its worker's session was lost."""

    worker: str
    """The worker's identity, which outlives its engine processes."""
    process: str
    """Which of them it was; empty: the worker does not say."""
    run_id: str
    """The job's run there."""
    seems_had: bool
    """Whether something shows that it had begun the job, or only that it may have."""


class JobRecord(msgspec.Struct, eq=False):
    """`pool` is the canonical model whose slots the job counts against; `request_type` is what the
    statistics call it (`vision_stream`)."""

    id: str
    request_id: str
    pool: str
    kind: Kind
    request_type: str
    route: str
    at: Milestones
    deadline_at: float
    active: bool
    phase: Phase = Phase.PREPARING
    job: Job | None = None
    images: Sequence[bytes] = ()
    session: bytes | None = None
    """Routing id of the worker session it is on, while DISPATCHED or RUNNING."""
    run_id: str = ""
    """Its id on the wire in its latest run; every dispatch gets a new one."""
    runs: int = 0
    run_at: float = 0.0
    """When its latest run was sent."""
    run_tokens: int = 0
    """What that run has brought."""
    fruitless_runs: int = 0
    """Runs given up since the last fruitful one."""
    rejections: int = 0
    """The same, of runs that a worker sent back. Counted apart, because a worker that has enough
    prompts to count sends back another, and is asked again later."""
    overtaken: bool = False
    """A stream whose worker had given its slot to another gateway: it queues for one no longer than
    for its first."""
    slot_by: float | None = None
    """Until when a stream may wait for a slot; None: it is no stream."""
    next_sequence: int = 0
    choices: list[ChoiceProgress] = []
    completion_tokens: int = 0
    """Of all choices; with `characters`, kept as a sum because each message asks for it."""
    characters: int = 0
    deaths: int = 0
    """Workers that have died while they held it."""
    lost: dict[bytes, Whereabouts] = {}
    """Sessions lost while they held it, whose fate is not known yet: dead, or only cut off."""
    migrations: int = 0
    prompt_tokens: int = 0
    usage: Usage | None = None
    timings: Timings | None = None
    worker: str = ""
    outcome: Outcome | None = None
    error_code: str | None = None

    def waits_in_vain(self, now: float) -> bool:
        """Whether it is a stream that has waited for a slot as long as it may."""
        waits = not self.active or (self.overtaken and self.phase is Phase.READY)
        return waits and self.slot_by is not None and now >= self.slot_by

    def has_claim(self, now: float) -> bool:
        """Whether it may hold a slot while another job, which is ready, waits for one."""
        return self.phase is not Phase.PREPARING or now < self.at.arrived_at + CLAIM_S

    def move(self, phase: Phase) -> None:
        if phase not in LEGAL_MOVES[self.phase]:
            raise AssertionError(f"illegal move of a job: {self.phase.name} to {phase.name}")
        self.phase = phase

    @property
    def stream(self) -> bool:
        return self.kind == "streaming"

    @property
    def only_counts(self) -> bool:
        return self.kind == "counting"

    @property
    def tried_too_often(self) -> bool:
        if self.only_counts and self.fruitless_runs >= MAX_COUNT_RUNS:
            return True
        return self.fruitless_runs + self.rejections >= MAX_FRUITLESS_RUNS

    @property
    def on_hold(self) -> bool:
        """Whether it may have brought down as many workers as it is allowed to; it waits until
        their fate is known."""
        return bool(self.lost) and self.deaths + len(self.lost) >= MAX_DEATHS

    @property
    def overflows(self) -> bool:
        """Whether it has brought more than any answer can have."""
        return self.characters > MAX_ANSWER_CHARACTERS or self.completion_tokens > MAX_ANSWER_TOKENS

    @property
    def is_complete(self) -> bool:
        """Whether every choice has come to its end."""
        return bool(self.choices) and all(c.finish_reason is not None for c in self.choices)

    @property
    def words(self) -> int:
        return sum(choice.words for choice in self.choices)

    def absorb(self, deltas: Sequence[Delta]) -> Sequence[Delta]:
        """Remember what the client is about to see, so that another worker can go on from it.
        Returns those that are what comes next in this run, up to the first that is not."""
        choices, first, tokens = self.choices, self.next_sequence, self.completion_tokens
        good = 0
        for delta in deltas:
            if delta.sequence != first + good or delta.choice >= len(choices):
                break
            choices[delta.choice].absorb(delta)
            good += 1
        self.next_sequence += good
        self.completion_tokens = sum(len(choice.tokens) for choice in choices)
        self.characters = sum(choice.characters for choice in choices)
        self.run_tokens += self.completion_tokens - tokens
        return deltas[:good]

    def give_up_run(self, now: float, *, rejected: bool) -> None:
        """Count the run that is over before the job is."""
        if self.run_tokens and now - self.run_at > FRUITFUL_AFTER_S:
            self.fruitless_runs = self.rejections = 0
        elif rejected:
            self.rejections += 1
        else:
            self.fruitless_runs += 1

    def resume_points(self) -> list[Resume]:
        """What a worker needs to go on; empty when nothing has been produced yet."""
        if not self.completion_tokens:
            return []
        return [Resume(tokens=list(c.tokens), finish_reason=c.finish_reason) for c in self.choices]
