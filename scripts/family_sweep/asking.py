"""What every family is asked, and what the engine says to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.benchmarks.in_process.engines import Ours, Request, ask, picture, user
from shared.messages import ChatMessage, Delta, Done, Failed, TextPart
from worker.engine.model.family import Split

TOKENS = 12


@dataclass(frozen=True)
class Question:
    name: str
    messages: list[ChatMessage]
    images: list[bytes] = field(default_factory=list)


@dataclass
class Said:
    """An answer's tokens, or what it failed with: the code of its error."""

    tokens: list[int] = field(default_factory=list)
    error: str = ""
    words: str = ""


class Engine:
    """The worker's engine on a checkpoint, driven as the worker's loop drives it."""

    def __init__(self, folder: Path) -> None:
        self._ours = Ours(str(folder), proof_cache=str(folder.parent / "proofs"))
        self._asked = 0

    def prompt(self, question: Question) -> str:
        """The text that the model's template makes of it."""
        return self._ours.engine.writer.write(self._request(question).job)

    def switched_off(self) -> list[str]:
        """What may not be done with this model, of what may be done with some."""
        abilities = self._ours.engine.model.abilities.as_dict()
        return [name for name, on in abilities.items() if not on]

    def of_no_use(self) -> set[str]:
        """Abilities that are off because there is nothing to do with them."""
        family = self._ours.engine.model.family
        drafts = set() if family.abilities.speculation else {"speculation"}
        if not family.abilities.pictures:
            return {"picture_splitting", "vision_cache"} | drafts
        return ({"picture_splitting"} if family.split is Split.NOT else set()) | drafts

    def forget(self) -> None:
        self._ours.engine.forget()

    def answers(self, questions: Sequence[Question]) -> list[Said]:
        """The answers to questions that come at once, in their order."""
        requests = [self._request(question) for question in questions]
        said = {request.job.id: Said() for request in requests}
        for request in requests:
            self._ours.engine.submit(request.job, request.images)
        left = set(said)
        while left:
            for event in self._ours.turn():
                if isinstance(event, Delta):
                    said[event.job].tokens += event.tokens
                if isinstance(event, Failed):
                    said[event.job].error, said[event.job].words = event.code, event.message
                if isinstance(event, Done | Failed):
                    left.discard(event.job)
        return list(said.values())

    def _request(self, question: Question) -> Request:
        self._asked += 1
        name = f"{question.name}-{self._asked}"
        return ask(name, question.messages, question.images, tokens=TOKENS)


def assistant(text: str) -> ChatMessage:
    return ChatMessage(role="assistant", content=[TextPart(text=text)])


WIDE, HIGH, OTHER = picture(90, 60, seed=1), picture(50, 120, seed=2), picture(90, 60, seed=3)


def alone(most_pictures: int) -> dict[str, Question]:
    """What is asked one by one, by the column of the table that it fills."""
    first = [0] if most_pictures else []
    images = [WIDE] if most_pictures else []
    asked = {"text": Question("text", [user("What is in this image?")])}
    if most_pictures:
        asked["picture"] = Question("picture", [user("What is it?", 0)], [WIDE])
    if most_pictures > 1:
        asked["pictures"] = Question("pictures", [user("And these?", 0, 1)], [HIGH, WIDE])
    turns = [user("What is it?", *first), assistant("Two shapes."), user("Where are they?")]
    asked["turns"] = Question("turns", turns, images)
    return asked


def together(most_pictures: int) -> list[Question]:
    """Eight that come at once: of unlike lengths, some about pictures of one size, some text."""
    asked = list(alone(most_pictures).values())
    if most_pictures:
        asked.append(Question("other", [user("What is it?", 0)], [OTHER]))
    texts = (
        "Hello",
        "How many shapes are there? " * 6,
        "Hello, how are you?",
        "Paris",
        "Two " * 30,
    )
    asked += [Question(f"text{index}", [user(text)]) for index, text in enumerate(texts)]
    texts_too = [Question(f"more{n}", [user(f"Is there a circle at the top? {n}")]) for n in (1, 2)]
    return [*asked, *texts_too][:8]
