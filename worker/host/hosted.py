"""One model of a host's catalogue, and how it is there now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from shared.messages import CatalogueEntry, ModelStatus
from shared.settings import as_flags
from worker import memory_share
from worker.engine.interface import ModelError
from worker.engine.options import MemoryShare
from worker.host.backoff import Backoff
from worker.host.budget import Budget
from worker.host.catalogue import Model
from worker.host.download import Download
from worker.host.engine import EngineProcess, how_it_ended
from worker.host.estimate import estimate_folder
from worker.host.room import Place
from worker.host.safetensors_header import HeaderError
from worker.lost_runs import LostRuns
from worker.supervisor_pipe import EXIT_HOPELESS, EXIT_LEFT, EXIT_RECYCLE

WISH_S = 5.0
"""Whoever waits for a model says so every second; after so long without a word nobody does."""
COMES_BACK_S = 20.0
"""A model that had been loaded and died is started again for as long: gateways keep its slots on
lease, and its jobs wait."""
FIRST_RETRY_S = 10.0
MAX_RETRY_S = 600.0
WORKING_SHARE = 1.1
"""Weights, and what a step works with beside them."""
TOKENS_A_SLOT = 2048
MAX_ERROR_CHARACTERS = 1024
FACTS = frozenset({"context_tokens", "vision"})
"""What only an engine knows of a model, and what stays true when it has left."""


class HostedModel:
    """
    Attributes:
        leaving: whether its engine was told to finish and end.
        wanted_since: since when somebody waits for it; None: nobody does.
        over: with which code the worker ends that has no other model; None: it goes on.
    """

    def __init__(self, model: Model, *, widened: bool) -> None:
        self.model = model
        self.leaving = False
        self.over: int | None = None
        self.idle_unload_s = model.idle_unload_s
        self._widened = widened
        self._preload = model.preload
        self._struck = False
        self._folder = _folder_of(model)
        """Where it lies; None: it has yet to be fetched, or looked for."""
        self._download: Download | None = None
        self._engine: EngineProcess | None = None
        self._lost_runs = LostRuns()
        self._served = False
        self._facts: dict[str, Any] = {}
        self._error = ""
        self._failures = 0
        self._retry_at = 0.0
        self._backoff = Backoff()
        self._rests_until = 0.0
        self.wanted_since: float | None = None
        self._wanted_until = 0.0
        self._loaded_at = self._used_at = 0.0
        self._begun = 0
        """How many runs its engine had begun at the last look."""
        self._estimated_bytes = self._estimate()

    def _estimate(self) -> int:
        """0 where the model is not here yet, or cannot be read: its engine says why; and of one
        that is kept, which gets what there is."""
        settings = self.model.settings
        if self._folder is None or self.model.kept:
            return 0
        drafter = settings.drafter_folder
        folders = [self._folder, *([drafter] if drafter is not None else [])]
        try:
            told = [estimate_folder(folder, widened=self._widened) for folder in folders]
        except (OSError, ModelError, HeaderError):
            return 0
        tokens = TOKENS_A_SLOT * (settings.max_concurrency + settings.max_streams)
        caches = settings.engine_options()
        remembered = caches.prefix_cache_bytes + caches.vision_cache_bytes
        weights_bytes = sum(each.weight_bytes for each in told)
        rows_bytes = sum(each.row_bytes(tokens) for each in told)
        return int(weights_bytes * WORKING_SHARE) + rows_bytes + remembered

    def become(self, model: Model) -> None:
        """Go by what the operator says of it now. An engine that was told otherwise leaves."""
        if model.settings != self.model.settings:
            self._facts = {}
            self.leave()
            self._folder = _folder_of(model)
        if (model.settings, model.stamp) != (self.model.settings, self.model.stamp):
            self._error, self._failures, self._retry_at = "", 0, 0.0  # it may be mended
        if self._struck or model.idle_unload_s != self.model.idle_unload_s:
            self.idle_unload_s = model.idle_unload_s
        if self._struck or model.preload != self.model.preload:
            self._preload = model.preload and (self._struck or not self.running)
        self._struck = False
        self.model = model
        self._estimated_bytes = self._estimate()

    def strike(self) -> None:
        """It is no longer listed: it leaves."""
        self._struck = True
        self.leave()

    # --- wishes and orders -------------------------------------------------------------------

    def want(self, now: float, for_s: float = WISH_S) -> None:
        if self.wanted_since is None:
            self.wanted_since = now
        self._wanted_until = max(self._wanted_until, now + for_s)

    def start(self, name: str, instance: str, budget: Budget, now: float) -> str | None:
        """Returns why its process cannot be started now, which is tried again.

        Args:
            instance: the host's, whose engines share the budget.
        """
        try:
            self._engine = self._engine_process(name, instance, budget)
        except OSError as error:
            return self._failed(f"Its process cannot be started: {error}", now)
        self._preload = self.leaving = False
        self._begun = 0
        return None

    def _engine_process(self, name: str, instance: str, budget: Budget) -> EngineProcess:
        model, alone = self.model, self.model.kept
        settings = replace(model.settings, model_path=(str(self._folder),))
        share = MemoryShare(budget.bytes, instance, self._estimated_bytes, budget.explicit)
        return EngineProcess(
            as_flags(settings),
            name if alone else f"{name}.{model.name.replace('/', '-')}",
            instance if alone else f"{instance}.{model.name}",
            self._lost_runs,
            supervisor="" if alone else instance,
            told={} if alone else memory_share.environment(share),
        )

    def download(self, now: float) -> str | None:
        """Fetch it; it can be loaded when that is done. Returns why that cannot be begun now."""
        try:
            self._download = Download(self.model.path, self.model.settings)
        except OSError as error:
            return self._failed(f"Its download cannot be started: {error}", now)
        return None

    def unload(self) -> None:
        """By order. What was wished before is void: whoever still waits for it asks again."""
        self.wanted_since, self._wanted_until, self._preload = None, 0.0, False
        self.leave()

    def leave(self) -> None:
        """It takes no more jobs, and ends when those it has are finished. If it is being fetched,
        it is not any more."""
        self._stop_download()
        if self._engine is not None:
            self.leaving = True
            self._engine.tell_to_leave(when_idle=True)

    def stop(self) -> None:
        """What runs is finished within `--drain-timeout` or goes on elsewhere; then it ends."""
        self._stop_download()
        if self._engine is not None:
            self.leaving = True
            self._engine.tell_to_leave()

    def _stop_download(self) -> None:
        if self._download is not None:
            self._download.stop()
            self._download = None

    # --- what has become of it -----------------------------------------------------------------

    def look(self, now: float) -> str | None:
        """Hear its engine. Returns why it had to be killed, or how it ended; None: all is well."""
        if self.wanted_since is not None and now > self._wanted_until:
            self.wanted_since = None
        if self._download is not None and not self._download.look():
            return self._downloaded(self._download, now)
        engine = self._engine
        if engine is None:
            return None
        was_ready = engine.was_ready
        if not engine.listen():
            return self._ended(engine, now)
        if engine.was_ready and not was_ready:
            self._facts = _facts(engine.report)
            self._loaded_at = self._used_at = now
            self._failures, self._error, self._served = 0, "", True
        if self.busy or engine.runs_begun > self._begun:  # a short one ended between two looks
            self._used_at = now
        self._begun = engine.runs_begun
        reason = engine.stuck(self.model.settings.stall_timeout)
        if reason is not None:
            engine.process.kill()
        return reason

    def _downloaded(self, download: Download, now: float) -> str | None:
        self._download, self._folder = None, download.folder
        self._estimated_bytes = self._estimate()
        if self._folder is not None:
            return None
        return self._failed(download.error, now, hopeless=download.hopeless)

    def _ended(self, engine: EngineProcess, now: float) -> str | None:
        code = engine.close()
        self._engine, left, self.leaving = None, self.leaving or code == EXIT_LEFT, False
        if left:
            self.over = EXIT_LEFT if self.model.kept else None
            return None
        hopeless = engine.hopeless(code, served=self._served)
        if code != EXIT_RECYCLE:
            self._lost_runs.died(engine.died_with)
        if hopeless is None and (engine.was_ready or code == EXIT_RECYCLE):
            wait_s = self._backoff.after_run(now - engine.started_at, was_ready=True)
            self._rests_until = now + wait_s
            self.want(now, COMES_BACK_S)
            return (
                f"its engine has ended ({how_it_ended(code)}); starting it again in {wait_s:.1f} s"
            )
        words = f"Its process ended while it was loaded ({how_it_ended(code)})."
        return self._failed(
            hopeless or words, now, now - engine.started_at, hopeless=hopeless is not None
        )

    def _failed(
        self, error: str, now: float, lasted_s: float = 0.0, *, hopeless: bool = False
    ) -> str:
        """It could not be loaded. Returns what is to be logged.

        Args:
            lasted_s: how long that was tried.
            hopeless: whether trying again is in vain, for all that is known.
        """
        self._failures += 1
        wait_s = float(min(MAX_RETRY_S, FIRST_RETRY_S * 2.0 ** (self._failures - 1)))
        if self.model.kept:
            wait_s = self._backoff.after_run(lasted_s, was_ready=False)
            self.over = EXIT_HOPELESS if hopeless else None
        self._retry_at = now + wait_s
        self._error = error
        if self._folder is not None and not self._folder.is_dir():
            self._folder = None
        if self.over is not None:
            return error
        return f"{error.removesuffix('.')}; starting it again in {wait_s:.1f} s"

    @property
    def pipe(self) -> int | None:
        """A descriptor that can be read when its engine has something to say."""
        return self._engine.pipe if self._engine is not None else None

    @property
    def usable_bytes(self) -> int:
        """What its engine finds that it may take; 0: it has not said."""
        return int(self._engine.report.get("usable_bytes", 0)) if self._engine is not None else 0

    @property
    def running(self) -> bool:
        return self._engine is not None

    @property
    def busy(self) -> bool:
        return self._engine is not None and self._engine.busy

    def _status(self, now: float) -> ModelStatus:
        if self._engine is not None:
            return "loaded" if self._engine.was_ready else "loading"
        if self._download is not None or self.waits_for_download(now):
            return "downloading"
        return "failed" if self._error else "unloaded"

    @property
    def downloads(self) -> bool:
        return self._download is not None

    def waits_for_download(self, now: float) -> bool:
        """Whether it is to be fetched as soon as nothing else is."""
        asked = self.wanted_since is not None or self._preload or self.model.kept
        rests = self.over is not None or now < self._retry_at
        return asked and not rests and self._folder is None and self._download is None

    @property
    def size_bytes(self) -> int:
        """What it takes: the estimate, or more if it was seen to take more."""
        measured = self._engine.report.get("memory_bytes", 0) if self._engine else 0
        return max(self._estimated_bytes, int(measured))

    def place(self, now: float) -> Place:
        state: Literal["out", "loading", "in", "leaving"] = "out"
        if self._engine is not None:
            state = "leaving" if self.leaving else "in" if self._engine.was_ready else "loading"
        # What is not here yet needs no room yet.
        rests = self.over is not None or now < max(self._rests_until, self._retry_at)
        absent = rests or self._folder is None
        return Place(
            self.model.name,
            0 if self.model.kept else self.size_bytes,
            state,
            busy=self.busy or (state == "in" and self.wanted_since is not None),
            pinned=self.model.pinned,
            loaded_at=self._loaded_at,
            used_at=self._used_at,
            wanted_since=None if absent else self.wanted_since,
            preload=(self._preload or self.model.kept) and not absent,
            idle_limit_s=self.idle_unload_s,
        )

    def entry(self, now: float) -> CatalogueEntry:
        """As gateways are told; what stands in the way of loading it is the host's to say."""
        settings, engine, status = self.model.settings, self._engine, self._status(now)
        report = engine.report if engine is not None else {}
        loaded = status == "loaded"
        download = self._download
        downloaded = download.fraction if download is not None else 0.0
        return CatalogueEntry(
            name=self.model.name,
            status=status,
            slots=settings.max_concurrency,
            stream_slots=settings.max_streams,
            aliases=list(self.model.aliases),
            fraction=1.0 if loaded else float(report.get("fraction", downloaded)),
            error=self._error[:MAX_ERROR_CHARACTERS] if status == "failed" else "",
            retry_s=max(0.0, self._retry_at - now) if status == "failed" else 0.0,
            memory_bytes=int(report.get("memory_bytes", 0)) or self._estimated_bytes,
            pinned=self.model.pinned,
            idle_s=now - self._used_at if loaded and not self.busy else None,
            kept=self.model.kept,
            done_bytes=download.done_bytes if download is not None else 0,
            total_bytes=download.total_bytes if download is not None else 0,
            **(self._facts | _facts(report)),
        )


def listed_anew(
    models: Iterable[Model], before: Iterable[HostedModel], *, widened: bool
) -> dict[str, HostedModel]:
    """Go by the list as it is now: whoever is not on it any more leaves.

    Args:
        before: who was on it, and who has been struck off it and has yet to end: it may be back,
            and no model is here twice.
        widened: as for an estimate.

    Returns:
        Who is on it, by name.
    """
    known = {hosted.model.name: hosted for hosted in before}
    listed: dict[str, HostedModel] = {}
    for model in models:
        hosted = known.pop(model.name, None)
        if hosted is None:
            hosted = HostedModel(model, widened=widened)
        else:
            hosted.become(model)
        listed[model.name] = hosted
    for hosted in known.values():
        hosted.strike()
    return listed


def _facts(report: Mapping[str, Any]) -> dict[str, Any]:
    return {fact: told for fact, told in report.items() if fact in FACTS}


def _folder_of(model: Model) -> Path | None:
    folder = Path(model.path)
    return folder if folder.is_dir() else None
