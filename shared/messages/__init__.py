"""The vocabulary of the wire: every message the two tiers exchange, one frozen record each.

A gateway binds a ROUTER socket, each worker connects a DEALER to every gateway it is given.

Three rules hold the protocol together:

1. **Level-triggered.** Each `Heartbeat` restates the whole truth (state, free slots, the jobs it
   holds for this gateway). A lost message heals within two heartbeats, so there are no
   acknowledgements and no retransmission.
2. **Late binding.** A `Submit` is sent only when the worker is believed to have a free slot; a
   worker that several gateways share answers `Rejected` when it has none, and the job goes back
   to the head of its gateway's queue.
3. **Everything needed to go on elsewhere is at the gateway.** Each `Delta` carries the token ids
   behind its text and a sequence number, so a job can be resumed on another worker from exactly
   what its client has seen. Sampling is a function of (seed, choice, position), so the
   continuation is the one the first worker would have produced.

Names end in their unit: `_s` seconds (float; durations, never clock readings, because the clocks
of two machines differ), `_bytes`, `_px`, `_tokens`. `docs/protocol.md` describes the same
messages for people who write a worker in another language.

`job.py` and `answer.py` have what messages are made of, `from_gateway.py` and `from_worker.py` the
messages, `base.py` what all of them share.
"""

from __future__ import annotations

from shared.messages.answer import Delta, Timings, TokenLogprob, ToolCallDelta, Usage
from shared.messages.base import (
    MAX_SLOTS,
    FailureCode,
    FinishReason,
    FromGateway,
    FromWorker,
    M,
    Message,
    ModelRoom,
    ModelStatus,
    RejectReason,
    WorkerAction,
    WorkerState,
    kinds,
)
from shared.messages.from_gateway import (
    Cancel,
    Control,
    CountTokens,
    Identify,
    JobMessage,
    Load,
    Ping,
    Submit,
    Unload,
    Welcome,
)
from shared.messages.from_worker import (
    MAX_ALIASES,
    MAX_CATALOGUE,
    MAX_DIED_WITH,
    Accepted,
    Cancelled,
    Catalogue,
    CatalogueEntry,
    CountedTokens,
    Deltas,
    Done,
    Failed,
    Goodbye,
    Heartbeat,
    Hello,
    Rejected,
)
from shared.messages.job import (
    ChatMessage,
    ImageInfo,
    ImagePart,
    Job,
    ResponseFormat,
    Resume,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
    ToolPolicy,
)

__all__ = [
    "MAX_ALIASES",
    "MAX_CATALOGUE",
    "MAX_DIED_WITH",
    "MAX_SLOTS",
    "Accepted",
    "Cancel",
    "Cancelled",
    "Catalogue",
    "CatalogueEntry",
    "ChatMessage",
    "Control",
    "CountTokens",
    "CountedTokens",
    "Delta",
    "Deltas",
    "Done",
    "Failed",
    "FailureCode",
    "FinishReason",
    "FromGateway",
    "FromWorker",
    "Goodbye",
    "Heartbeat",
    "Hello",
    "Identify",
    "ImageInfo",
    "ImagePart",
    "Job",
    "JobMessage",
    "Load",
    "M",
    "Message",
    "ModelRoom",
    "ModelStatus",
    "Ping",
    "RejectReason",
    "Rejected",
    "ResponseFormat",
    "Resume",
    "Sampling",
    "Submit",
    "TextPart",
    "Timings",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolPolicy",
    "Unload",
    "Usage",
    "Welcome",
    "WorkerAction",
    "WorkerState",
    "kinds",
]
