"""One request for text, whatever API it came by: the record all of them are translated into.

`gateway/api/*` parse their own dialect into a `GenerationRequest`; `gateway/api/endpoint.py`
carries it through admission, images and dispatch; `gateway/api/*` render the events that come
back. Nothing behind this line knows which dialect the client speaks.

Records that every request or every token makes are msgspec's, here and in dispatch: one of 20
fields takes 0.5 µs to make, a frozen dataclass of the same 8.0 µs, one with slots 5.2 µs (measured
on the busy development machine).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from shared.messages import (
    Accepted,
    ChatMessage,
    Delta,
    Done,
    Job,
    ResponseFormat,
    Sampling,
    ToolPolicy,
)

SEED_BYTES = 6
"""Every JSON reader can hold such a number."""


class ImageSource(msgspec.Struct):
    """An image as the client named it: a data URL or an http(s) URL.

    `param` is the path of the field it came from, for error messages. `url` is empty once the
    image is loaded, so that a data URL's text is not held beside its bytes.
    """

    url: str
    param: str
    longest_side_px: int | None = None
    """What it is scaled down to for the model; None: it is not."""


def draw_seed() -> int:
    return int.from_bytes(os.urandom(SEED_BYTES), "little")


class GenerationRequest(msgspec.Struct, frozen=True):
    """A validated request. Exactly one of `messages` and `prompts` is set.

    `ImagePart.index` in `messages` counts into `images`, which still have to be fetched.
    """

    model: str | None
    stream: bool
    messages: list[ChatMessage] = []
    prompts: list[str | list[int]] = []
    """Each is answered by itself, in `choices` choices; a list: as token ids."""
    images: list[ImageSource] = []
    min_pixels: int | None = None
    max_pixels: int | None = None
    """Of each image, as the model's processor scales it; None: its own."""
    sampling: Sampling = msgspec.field(default_factory=lambda: Sampling(seed=draw_seed()))
    """A seed that the client left open is drawn already: whoever goes on with the job uses it."""
    continue_final_message: bool = False
    max_tokens: int | None = None
    stop: list[str] = []
    choices: int = 1
    logprobs: int | None = None
    response_format: ResponseFormat | None = None
    tool_policy: ToolPolicy | None = None
    template_options: dict[str, Any] = {}
    ignore_eos: bool = False
    prediction: str = ""
    """What the client expects to be answered."""
    echo: bool = False
    tenant: str = ""
    waited_s: float = 0.0
    """For how long its body waited to be read; the deadline counts that in."""
    idle_unload_s: float | None = None
    """After how many seconds without a job its model leaves from now on, where a worker loads
    models on demand; 0: never; None: as it is."""
    renamed: dict[str, str] = {}
    """What the client's dialect calls the fields that a worker may find wrong."""
    route: str = ""
    """The path the client asked on; only the statistics look at it."""

    @property
    def answers(self) -> int:
        """How many choices its answer has."""
        return self.choices * max(1, len(self.prompts))

    @property
    def kind(self) -> str:
        """`vision`, `vision_stream`, `text` or `text_stream`: the statistics' request types."""
        return ("vision" if self.images else "text") + ("_stream" if self.stream else "")


Event = Accepted | Delta | Done


class Ticket(Protocol):
    """A slot, or a place in the queue, held for one request until it ends."""

    job_id: str
    model: str
    """The id the client asked for, or the served model's first id when it left it out."""

    def submit(self, job: Job, images: Sequence[bytes]) -> None:
        """Hand over the prepared job; it is dispatched as soon as a worker slot is its own."""

    async def next_events(self) -> list[Event]:
        """Wait for news of the job: one or more events, in order, `Done` last of all.

        Cancelling the wait loses nothing: the next call returns what has come meanwhile.

        Raises:
            ApiError: the job has failed, timed out or cannot be served; nothing comes after it.
        """

    def cancel(self) -> None:
        """Free everything at once. Idempotent, and harmless after the end. Never awaits, so
        that it may stand in a `finally` of a task that is itself being cancelled."""


class Dispatch(Protocol):
    """Admission and dispatch, as the API rooms see them."""

    def reserve(self, request: GenerationRequest, request_id: str) -> Ticket:
        """Take a slot or a place in the queue, before any image is touched.

        Raises:
            NotFound: no worker serves that model (`model_not_found`).
            NoWorker: no live worker, or one that is still loading.
            QueueFull: no free place (429).
        """

    def count(self, request: GenerationRequest, request_id: str) -> Ticket:
        """Take a place for a prompt whose tokens are only to be counted: no slot, and nothing in
        the statistics. The ticket's one event is `Accepted`. Raises as `reserve` does."""
