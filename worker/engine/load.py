"""The engine's front door: it gives MLX its BLAS before anything imports MLX."""

from __future__ import annotations

import logging

from worker.engine.model import blas

blas.load()

import mlx.core as mx  # noqa: E402

from shared.model_path import expanded  # noqa: E402
from worker.engine.draft_model.draft_model import DraftModel  # noqa: E402
from worker.engine.draft_model.fitting import load_draft_model  # noqa: E402
from worker.engine.engine import MlxEngine  # noqa: E402
from worker.engine.faults import is_out_of_memory  # noqa: E402
from worker.engine.interface import (  # noqa: E402
    ModelError,
    ModelUnavailable,
    Report,
    Trying,
    WakeLoop,
)
from worker.engine.model.device import has_gpu, set_memory_limits  # noqa: E402
from worker.engine.model.model import LoadedModel, load_model  # noqa: E402
from worker.engine.model.warmup import warm_up  # noqa: E402
from worker.engine.options import WITHOUT_MODEL, EngineOptions  # noqa: E402
from worker.engine.proof import remembered  # noqa: E402
from worker.engine.proof.proof import Proof, prove  # noqa: E402
from worker.engine.schedule.memory_budget import MemoryBudget  # noqa: E402
from worker.engine.schedule.neighbours import Neighbours, Taken  # noqa: E402
from worker.engine.schedule.pass_costs import measured  # noqa: E402

log = logging.getLogger(__name__)


def load_engine(
    options: EngineOptions, report: Report, wake: WakeLoop, trying: Trying = lambda what: None
) -> MlxEngine:
    """Load the model, prove it, warm it up and return the engine that serves it.

    Belongs on the engine thread, which makes every later call: MLX's streams are a thread's own.

    Raises:
        ModelError: the model can never work.
        ModelUnavailable: it cannot be had now.
    """
    limit_bytes = set_memory_limits(options.memory.budget_bytes)
    try:
        engine = _made(options, limit_bytes, report, wake, trying)
        go_by(engine, options, _proof_of(engine, options, trying))
        mx.reset_peak_memory()
        trying("it was warmed up")
        warm_up(engine)
        if engine.speculation.on:
            trying("passes with drafts were timed")
            _weigh_drafts(engine)
        engine.memory.working_bytes = max(0, mx.get_peak_memory() - mx.get_active_memory())
    except (ModelError, ModelUnavailable):
        raise
    except Exception as error:
        # Models fail in their own ways, and will again: only memory may be there next time.
        if is_out_of_memory(error):
            raise
        log.debug("making the model ready has failed", exc_info=True)
        words = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"The model cannot be made ready: {words}") from error
    engine.forget()
    report(1.0)
    return engine


def _weigh_drafts(engine: MlxEngine) -> None:
    """Time what they cost; where they cannot be had, do without."""
    engine.threads.for_decode()
    try:
        drafter = engine.speculation.draft_model
        engine.speculation.costs = measured(engine.model, drafter.model if drafter else None)
    except Exception as error:
        # A boundary: models fail in their own ways, and nothing depends on drafts.
        engine.speculation.on = False
        log.warning("nothing is drafted for this model: %s", error)


def _made(
    options: EngineOptions,
    limit_bytes: int | None,
    report: Report,
    wake: WakeLoop,
    trying: Trying,
) -> MlxEngine:
    trying("it was loaded")
    neighbours = Neighbours()
    neighbours.tell(_expected(options))
    model = load_model(options, report)
    drafter = _draft_model(options, model)
    footprint = model.footprint if drafter is None else model.footprint + drafter.model.footprint
    memory = MemoryBudget(limit_bytes, footprint, options.memory, neighbours)
    memory.look_around()
    memory.describe()
    threads = blas.choose_threads(model, gpu=has_gpu())
    engine = MlxEngine(model, options, memory, threads, wake)
    engine.speculation.draft_model = drafter
    return engine


def _draft_model(options: EngineOptions, model: LoadedModel) -> DraftModel | None:
    """The one that was named, if this model can make use of it."""
    if options.speculate in WITHOUT_MODEL or not model.family.abilities.speculation:
        return None
    return load_draft_model(options, model)


def _expected(options: EngineOptions) -> Taken:
    """What an engine will take, as long as it is not known: the others leave it so much."""
    drafter = () if options.speculate in WITHOUT_MODEL else (options.speculate,)
    folders = [expanded(path) for path in (options.model_path, *drafter)]
    files = [file for folder in folders for file in folder.glob("*.safetensors")]
    weights_bytes = sum(file.stat().st_size for file in files if file.is_file())
    share = options.memory
    return Taken(share.group, claimed_bytes=max(share.claimed_bytes, weights_bytes))


def _proof_of(engine: MlxEngine, options: EngineOptions, trying: Trying) -> Proof:
    """An earlier start's, or a new one."""
    digest = remembered.digest(engine.model.folder, trust_remote_code=options.trust_remote_code)
    file = remembered.folder(options.proof_cache) / f"{digest}.json"
    proof = remembered.recall(file)
    if proof is None:
        proof = prove(engine, options, trying)
        remembered.remember(file, proof)
    return proof


def prove_in_full(options: EngineOptions, trying: Trying = lambda what: None) -> Proof:
    """Load a model and try everything with it, whatever is remembered of it.

    Raises: as `load_engine`.
    """
    engine = _made(options, set_memory_limits(), lambda part: None, lambda: None, trying)
    return prove(engine, options, trying, in_full=True)


def go_by(engine: MlxEngine, options: EngineOptions, proof: Proof) -> None:
    """Serve with what has been proven, and say so."""
    model = engine.model
    model.proven, model.lengthens = proof.proven, proof.lengthens
    model.allow(proof.abilities, options.vision_cache_bytes)
    engine.begin_anew(options)
    held = ", ".join(ability for ability, holds in proof.proven.items() if holds)
    reasons = dict(proof.reasons)
    no_drafts = reasons.pop("speculation", "")
    off = "; ".join(f"without {ability}: {why}" for ability, why in reasons.items())
    remarks = [off] if off else []
    if proof.untried:
        remarks.append(f"not tried beyond {proof.untried} tokens, which the model takes long for")
    level = logging.WARNING if off else logging.INFO
    log.log(level, "answers are mlx-vlm's own with %s", "; ".join([held, *remarks]))
    if no_drafts and options.speculate != "off":
        log.info("nothing is drafted for this model: %s", no_drafts)
