"""Tells a model's thinking from its answer."""

from __future__ import annotations

from dataclasses import dataclass

from worker.engine.text.stop import held_back


@dataclass(frozen=True)
class ThinkMarkers:
    start: str
    end: str


KNOWN_MARKERS = (
    ThinkMarkers("<think>", "</think>"),
    ThinkMarkers("◁think▷", "◁/think▷"),
    ThinkMarkers("<seed:think>", "</seed:think>"),
    ThinkMarkers("[THINK]", "[/THINK]"),
)


def find_markers(template: str | None) -> ThinkMarkers | None:
    """The markers that the chat template knows of, if any."""
    for markers in KNOWN_MARKERS:
        if template is not None and markers.end in template:
            return markers
    return None


class ReasoningSplitter:
    """Splits a stream of text into (reasoning, content).

    Thinking begins with the start marker as the first thing said, or is open from the start
    because the prompt ended with it. It ends at the end marker. White space around the border
    belongs to neither.
    """

    def __init__(self, markers: ThinkMarkers | None, prompt: str) -> None:
        self._markers = markers
        self._held = ""
        self._trim = False
        self.thinking = markers is not None and prompt.rstrip().endswith(markers.start)
        self._undecided = markers is not None and not self.thinking

    def push(self, text: str) -> tuple[str, str]:
        if self._markers is None:
            return "", text
        self._held += text
        if self._undecided:
            self._decide(self._markers.start)
        if self._undecided:
            return "", ""
        return self._think(self._markers.end) if self.thinking else ("", self._take())

    def finish(self) -> tuple[str, str]:
        held, self._held = self._held, ""
        return (held, "") if self.thinking else ("", held)

    def _decide(self, start: str) -> None:
        said = self._held.lstrip()
        if said.startswith(start):
            self._held = said[len(start) :]
            self.thinking, self._trim, self._undecided = True, True, False
        elif said and not start.startswith(said):
            self._undecided = False

    def _think(self, end: str) -> tuple[str, str]:
        place = self._held.find(end)
        if place >= 0:
            reasoning = self._trimmed(self._held[:place]).rstrip()
            self._held = self._held[place + len(end) :]
            self.thinking, self._trim = False, True
            return reasoning, self._take()
        # White space is held too: it is dropped if the end marker follows it.
        solid = len(self._held[: len(self._held) - held_back(self._held, end)].rstrip())
        reasoning, self._held = self._held[:solid], self._held[solid:]
        return self._trimmed(reasoning), ""

    def _take(self) -> str:
        text, self._held = self._held, ""
        return self._trimmed(text)

    def _trimmed(self, text: str) -> str:
        if not self._trim:
            return text
        text = text.lstrip()
        if text:
            self._trim = False
        return text
