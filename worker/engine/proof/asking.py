"""Asks an engine as its users do, and listens to what it thinks of each token."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Collection, Mapping

from shared.messages import Done, Failed
from worker.engine.engine import MlxEngine
from worker.engine.proof.agreement import Said
from worker.engine.proof.questions import TOKENS, Question
from worker.engine.schedule.sequences import Chosen

LONGER = 3 * TOKENS
MOST = 64
"""Tokens of an answer beside which others come and go: more than that takes."""
APART, NAMED = "apart", "proof-"
NAP_S = 0.001
ANSWER_TIMEOUT_S = 300.0


def number_of(job_id: str) -> int:
    """Which of the questions that were asked side by side this one is."""
    return int(job_id.removeprefix(NAMED))


class NoAnswer(Exception):
    """The engine did not answer a question, and says why."""


class Asking:
    """Watches the engine from when it is made until `close`.

    Args:
        raw: texts are prompts as they are, without the model's template.

    Attributes:
        lengthens: whether the model has made other numbers of embeddings of prompts than they have
            tokens.
    """

    def __init__(self, engine: MlxEngine, *, raw: bool) -> None:
        self._engine = engine
        self._raw = raw
        self.lengthens = False
        self._heard: defaultdict[str, list[Chosen]] = defaultdict(list)
        engine.watch = self._hear

    def close(self) -> None:
        self._engine.watch = None

    def _hear(self, chosen: Chosen) -> None:
        request = chosen.row.request
        self.lengthens |= len(request.taken.ids) != len(request.prompt.ids)
        self._heard[request.job.id].append(chosen)

    def ask(
        self,
        together: tuple[Question, ...],
        joining: tuple[Question, ...] = (),
        *,
        apart: bool = False,
        longer: bool = False,
    ) -> list[tuple[Question, Said]]:
        """Ask questions side by side.

        Args:
            joining: further ones, each asked when the one before it is answered, the first when
                anything has been said. Those side by side say more, until all of these are done.
            apart: by a tenant of their own, who shares no prompt with the others.
            longer: all say more.

        Raises:
            NoAnswer: to one of them.
            Exception: what ends an engine.
        """
        self._heard.clear()
        asked: dict[str, Question] = {}
        open_jobs: set[str] = set()

        def submit(question: Question, tokens: int) -> str:
            job_id = f"{NAMED}{len(asked)}"
            asked[job_id] = question
            open_jobs.add(job_id)
            salt = APART if apart else ""
            job = question.job(job_id, raw=self._raw, tokens=tokens, salt=salt)
            self._engine.submit(job, question.pictures)
            return job_id

        for question in together:
            submit(question, MOST if joining else LONGER if longer else TOKENS)
        self._engine.preparation.finish()  # so that the same ones always come together
        to_come, newest = deque(joining), ""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while open_jobs:
            if time.monotonic() > deadline:
                raise NoAnswer(f"no answer in {ANSWER_TIMEOUT_S:.0f} s")
            open_jobs -= self._step(asked)
            if joining and self._heard and newest not in open_jobs:
                if not to_come:
                    self._stop(open_jobs)
                    break
                newest = submit(to_come.popleft(), TOKENS)
                self._engine.preparation.finish()
        return [(question, self._said(job_id)) for job_id, question in asked.items()]

    def _stop(self, jobs: Collection[str]) -> None:
        """They have said enough."""
        for job_id in jobs:
            self._engine.cancel(job_id)

    def _step(self, asked: Mapping[str, Question]) -> set[str]:
        """One step; returns the jobs that are done."""
        if not self._engine.has_work():
            time.sleep(NAP_S)  # the pool still prepares
        done = set()
        for event in self._engine.step():
            if isinstance(event, Failed):
                raise NoAnswer(f"{asked[event.job].name}: {event.message}")
            if isinstance(event, Done):
                done.add(event.job)
        return done

    def _said(self, job_id: str) -> Said:
        heard = self._heard[job_id]
        likeliest = [dict([(one.token, one.logprob), *one.alternatives]) for one in heard]
        return Said([one.token for one in heard], list(likeliest))
