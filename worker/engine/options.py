"""What the engine can be told: one frozen record, built from the worker's settings."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024**2
WITHOUT_MODEL = ("off", "auto", "lookup")
"""What `speculate` can be beside a folder."""


@dataclass(frozen=True)
class MemoryShare:
    """What an engine is told to keep to.

    Attributes:
        budget_bytes: for all engines of its group together, weights included; None: what the
            machine has, which it shares with every other engine there.
        group: who shares this budget; "": nobody does.
        claimed_bytes: what of it is this engine's in any case.
        explicit: an operator named the budget, so it holds whatever else is on the machine.
    """

    budget_bytes: int | None = None
    group: str = ""
    claimed_bytes: int = 0
    explicit: bool = False


@dataclass(frozen=True)
class EngineOptions:
    """
    Attributes:
        model_path: a folder or a hub id that mlx-vlm loads.
        trust_remote_code: whether Python that the model brings may run.
        max_context: most tokens of prompt plus answer; None: the model's own limit.
        image_position: where images stand in a user message, relative to its text.
        prefix_cache_bytes: most memory for key-value caches of prompts seen before; 0: none.
        vision_cache_bytes: most memory for features of images seen before; 0: none.
        speculate: whether what a row is likely to say next is computed together: "off", or where
            its drafts come from: "auto", "lookup", or the folder of a model that drafts.
        max_rows: most sequences decoded at once; further ones wait inside the engine.
        prefill_pause_s: how long running streams may wait for a short newcomer's prompt; for a long
            one they wait about as long as for a token of their own, many times.
        largest_piece: most tokens of a prompt that are prefilled at once; None: as many as the time
            allows.
        steady: whether a piece has so many tokens however long it takes, so that what is computed
            together does not depend on how fast that is.
        proof_cache: folder in which passed proofs of models are remembered; "": one of the user's
            caches.
        preprocess_threads: threads that tokenize and decode images beside the engine thread.
        memory: what weights and caches may take.
    """

    model_path: str
    trust_remote_code: bool = False
    max_context: int | None = None
    image_position: str = "as-sent"
    prefix_cache_bytes: int = 1024 * MIB
    vision_cache_bytes: int = 256 * MIB
    speculate: str = "off"
    max_rows: int = 64
    prefill_pause_s: float = 0.05
    largest_piece: int | None = None
    steady: bool = False
    proof_cache: str = ""
    preprocess_threads: int = 2
    memory: MemoryShare = MemoryShare()
