"""An engine that plays a script instead of a model: for tests, and for trying the gateway alone.

`python -m worker --engine scripted`. The script is JSON in the last user message (or the
prompt), after the word `script:`; without one it answers eight tokens at once. Stop strings are
honoured. Counting a prompt's tokens waits for `first_delay_s` and has the same faults.

    script: {"tokens": 20, "delay_s": 0.05, "at": 10, "fault": "die"}

| field | default | meaning |
|---|---|---|
| tokens | 8 | how many tokens the answer has; token i is the text "w{i} " |
| text | "" | the answer instead, four characters a token |
| thoughts | 0 | so many of these tokens, the first ones, are thoughts |
| first_delay_s | 0 | seconds before the first token |
| delay_s | 0 | seconds between tokens |
| burst | 1 | tokens a step |
| fault | none | `die` (kill -9), `hang`, `crash` (raises), `fail` (the job's own) or `compute` |
| at | 0 | the token before which the fault strikes |
| once | "" | a file: the fault strikes only if it does not exist, and creates it |
| compute_s | 0 | how long a step with the fault `compute` burns the CPU before the job goes on |
| code | "internal_error" | the code of `fail` |
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from shared.messages import (
    Accepted,
    CountedTokens,
    Delta,
    Done,
    Failed,
    FailureCode,
    FinishReason,
    Job,
    TextPart,
    Timings,
    Usage,
)
from worker.engine.interface import EngineEvent, ModelFacts
from worker.engine.text.stop import StopFinder

MARK = "script:"
NAP_S = 0.002
CHARACTERS = 4


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: int = 8
    text: str = ""
    thoughts: int = 0
    first_delay_s: float = 0.0
    delay_s: float = 0.0
    burst: int = 1
    fault: Literal["", "die", "hang", "crash", "compute", "fail"] = ""
    at: int = 0
    once: str = ""
    compute_s: float = 0.0
    code: FailureCode = "internal_error"

    @property
    def length(self) -> int:
        """How many tokens the answer has."""
        return -(-len(self.text) // CHARACTERS) if self.text else self.tokens

    def say(self, tokens: Iterable[int]) -> str:
        """The text of these tokens."""
        if not self.text:
            return words(tokens)
        return "".join(self.text[at * CHARACTERS : (at + 1) * CHARACTERS] for at in tokens)


class Play:
    """One job and how far its script has been played."""

    def __init__(self, job: Job, script: Script, now: float) -> None:
        self.job = job
        self.script = script
        self.made = [len(point.tokens) for point in job.resume] or [0] * job.choices
        self.stops = [StopFinder(job.stop) for _ in self.made]
        for stop, made in zip(self.stops, self.made, strict=True):
            stop.push(script.say(range(script.thoughts, made)))
        self.sequence = 0
        self.started_at = now
        self.due_at = now + script.first_delay_s
        self.limit = min(script.length, job.max_tokens or script.length)

    @property
    def prompt_tokens(self) -> int:
        return max(1, len(last_text(self.job)) // 4)

    @property
    def finish_reason(self) -> FinishReason:
        return "stop" if self.limit == self.script.length else "length"

    def fault_is_due(self) -> bool:
        script = self.script
        if not script.fault or max(self.made) < script.at:
            return False
        if script.once:
            if Path(script.once).exists():
                return False
            Path(script.once).touch()
        return True

    def deltas(self) -> list[EngineEvent]:
        """The next burst of every choice."""
        events: list[EngineEvent] = []
        for choice, made in enumerate(self.made):
            if self.over(choice) and self.limit:
                continue
            tokens = list(range(made, min(self.limit, made + self.script.burst)))
            self.made[choice] += len(tokens)
            stop, thoughts = self.stops[choice], self.script.thoughts
            thought = self.script.say(token for token in tokens if token < thoughts)
            text = stop.push(self.script.say(token for token in tokens if token >= thoughts))
            finish: FinishReason | None = None
            if stop.found:
                finish = "stop"
            elif self.over(choice):
                text += stop.finish()
                finish = self.finish_reason
            events.append(Delta(self.job.id, self.sequence, choice, tokens, text, finish, thought))
            self.sequence += 1
        return events

    def over(self, choice: int) -> bool:
        return self.made[choice] >= self.limit or self.stops[choice].found

    def finished(self) -> bool:
        return all(map(self.over, range(len(self.made))))

    def done(self, now: float) -> Done:
        usage = Usage(prompt_tokens=self.prompt_tokens, completion_tokens=sum(self.made))
        stops = [stop.match for stop in self.stops]
        return Done(
            job=self.job.id,
            usage=usage,
            timings=Timings(total_s=now - self.started_at),
            stops=stops if any(stops) else [],
        )


class ScriptedEngine:
    """Implements `worker.engine.interface.Engine`."""

    facts = ModelFacts("script", vision=True, context_tokens=1_000_000, proven={"text": True})

    def __init__(self) -> None:
        self._plays: dict[str, Play] = {}
        self._counts: dict[str, Play] = {}
        self._events: list[EngineEvent] = []

    def submit(self, job: Job, images: Sequence[bytes]) -> None:
        play = self._read(job)
        if play is not None:
            self._plays[job.id] = play
            self._events.append(Accepted(job=job.id, prompt_tokens=play.prompt_tokens))

    def count(self, job: Job, images: Sequence[bytes]) -> None:
        play = self._read(job)
        if play is not None:
            self._counts[job.id] = play

    def cancel(self, job_id: str) -> bool:
        return self._plays.pop(job_id, None) is not None

    def has_work(self) -> bool:
        return bool(self._plays or self._counts or self._events)

    def gauges(self) -> dict[str, float]:
        return {}

    def step(self) -> list[EngineEvent]:
        events, self._events = self._events, []
        now = time.monotonic()
        for play in [play for play in self._plays.values() if play.due_at <= now]:
            events.extend(self._advance(play, now))
        for play in [play for play in self._counts.values() if play.due_at <= now]:
            events.extend(self._say_count(play))
        waiting = [*self._plays.values(), *self._counts.values()]
        if not events and waiting:
            next_due_s = min(play.due_at for play in waiting) - now
            time.sleep(min(NAP_S, max(0.0, next_due_s)))
        return events

    def _read(self, job: Job) -> Play | None:
        try:
            return Play(job, read_script(job), time.monotonic())
        except (ValueError, msgspec.ValidationError) as error:
            words = f"The script cannot be played: {error}"
            self._events.append(Failed(job=job.id, code="invalid_request", message=words))
            return None

    def _say_count(self, play: Play) -> list[EngineEvent]:
        del self._counts[play.job.id]
        if play.fault_is_due():
            return self._strike(play)
        return [CountedTokens(job=play.job.id, prompt_tokens=play.prompt_tokens)]

    def _advance(self, play: Play, now: float) -> list[EngineEvent]:
        if play.fault_is_due():
            if play.script.fault != "compute":
                return self._strike(play)
            _burn(play.script.compute_s)
        events = play.deltas()
        play.due_at = now + play.script.delay_s
        if play.finished():
            del self._plays[play.job.id]
            events.append(play.done(now))
        return events

    def _strike(self, play: Play) -> list[EngineEvent]:
        match play.script.fault:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(3600)
            case "crash":
                raise RuntimeError("the script says: crash")
        self._plays.pop(play.job.id, None)
        words = "The script says: fail."
        return [Failed(job=play.job.id, code=play.script.code, message=words)]


def _burn(seconds: float) -> None:
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        pass


def words(tokens: Iterable[int]) -> str:
    return "".join(f"w{token} " for token in tokens)


def last_text(job: Job) -> str:
    if job.prompt is not None:
        return job.prompt
    if not job.messages:
        return ""
    return "".join(p.text for p in job.messages[-1].content if isinstance(p, TextPart))


def read_script(job: Job) -> Script:
    """
    Raises:
        ValueError, msgspec.ValidationError: it is not JSON, or has an unknown or wrong field.
    """
    _, mark, script = last_text(job).partition(MARK)
    return msgspec.convert(json.loads(script), Script) if mark else Script()
