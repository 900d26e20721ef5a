"""The supervisor of a worker's models: each loaded one is an engine process of its own.

One thread, which never waits for any of them.
"""

from __future__ import annotations

import logging
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

import msgspec

from shared.launcher import Launcher
from shared.messages import Catalogue, Load, Unload
from shared.settings import SettingsError
from worker.host.budget import Budget, default_budget_bytes
from worker.host.catalogue import Model, read_catalogue
from worker.host.hosted import HostedModel, listed_anew
from worker.host.room import decide, room_for
from worker.host.session import HostSession
from worker.host.watch import CatalogueWatch
from worker.settings import GIB, Settings

log = logging.getLogger(__name__)

ASKING_S = 60.0


class Host:
    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._instance = secrets.token_hex(8)
        self._launcher = Launcher()
        self._stopping = False
        self._models: dict[str, HostedModel] = {}
        self._budget = Budget(0, explicit=False)
        self._widened = True
        self._watch = CatalogueWatch(settings)
        self._gone: list[HostedModel] = []
        """Models that are no longer listed, and have yet to end."""
        self._told: Catalogue | None = None

    def run(self) -> int:
        """Return the exit code: 0 when told to stop, 2 when the catalogue cannot be read, or its
        only model can never be loaded."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        try:
            models = read_catalogue(self._settings)
        except SettingsError as error:
            print(f"python -m worker: {error}", file=sys.stderr)
            return 2
        # One that is kept is loaded whatever it takes, and at once.
        gpu_bytes = _gpu_memory_bytes() if self._settings.is_host else 0
        self._budget = _budget(self._settings, gpu_bytes)
        self._widened = not gpu_bytes
        self._go_by(models)
        session = HostSession(self._settings)
        while not self._stopping:
            self._turn(session, time.monotonic())
            over = [hosted.over for hosted in self._models.values() if hosted.over is not None]
            if over:
                session.leave(self._last_words())
                return over[0]
            session.wait(hosted.pipe for hosted in self._everybody if hosted.pipe is not None)
        for hosted in self._everybody:
            hosted.stop()
        session.leave(self._last_words())
        while any(hosted.running for hosted in self._everybody):
            time.sleep(0.05)
            self._look(time.monotonic())
        return 0

    @property
    def _everybody(self) -> tuple[HostedModel, ...]:
        return (*self._models.values(), *self._gone)

    def _last_words(self) -> Catalogue:
        return msgspec.structs.replace(self._catalogue(time.monotonic()), leaving=True)

    def _turn(self, session: HostSession, now: float) -> None:
        if self._launcher.is_gone:
            log.warning("worker %s: what started it has ended, so it leaves", self._name)
            self._stopping = True
        self._read_again_if_changed(now)
        for order in session.orders(now):
            self._obey(order, now)
        self._look(now)
        places = [hosted.place(now) for hosted in self._everybody]
        decision = decide(places, self._budget.bytes, now)
        for name in decision.leave:
            log.info("model %s leaves", name)
            self._models[name].leave()
        for name in [] if self._stopping else decision.start:
            log.info("model %s starts to load", name)
            hosted = self._models[name]
            self._log(hosted, hosted.start(self._name, self._instance, self._budget, now))
        self._download_next(now)
        catalogue = self._catalogue(now)
        changed, self._told = _differs(self._told, catalogue), catalogue
        session.tell(lambda: catalogue, now, changed=changed)

    def _download_next(self, now: float) -> None:
        """One at a time, the longest wanted first: two would share the same line."""
        everybody = self._models.values()
        waiting = [hosted for hosted in everybody if hosted.waits_for_download(now)]
        if waiting and not self._stopping and not any(hosted.downloads for hosted in everybody):
            first = min(waiting, key=lambda hosted: hosted.wanted_since or now)
            log.info(
                "model %s is fetched from the hub, or looked for in its cache", first.model.name
            )
            self._log(first, first.download(now))

    def _read_again_if_changed(self, now: float) -> None:
        if not self._watch.has_news(now):
            return
        try:
            self._go_by(read_catalogue(self._settings))
        except (SettingsError, OSError) as error:
            log.error("the catalogue stays as it was: %s", error)

    def _go_by(self, models: Sequence[Model]) -> None:
        self._watch.follow(models)
        before = self._everybody
        self._models = listed_anew(models, before, widened=self._widened)
        listed = self._models.values()
        self._gone = [hosted for hosted in before if hosted not in listed and hosted.running]
        log.info("host %s: %d models", self._name, len(models))

    def _look(self, now: float) -> None:
        self._gone = [hosted for hosted in self._gone if hosted.running]
        for hosted in self._everybody:
            self._log(hosted, hosted.look(now))

    def _log(self, hosted: HostedModel, reason: str | None) -> None:
        if reason is not None and hosted.over is not None:
            log.error("%s", reason)
        elif reason is not None:
            log.warning("model %s: %s", hosted.model.name, reason)

    def _obey(self, order: Load | Unload, now: float) -> None:
        for hosted in self._models.values():
            named = order.model in (hosted.model.name, *hosted.model.aliases)
            if hosted.model.kept or not named:
                continue
            if isinstance(order, Unload):
                log.info("model %s is told to leave", hosted.model.name)
                hosted.unload()
                continue
            hosted.want(now)
            if order.idle_unload_s is not None:
                hosted.idle_unload_s = order.idle_unload_s

    def _catalogue(self, now: float) -> Catalogue:
        budget_bytes = self._budget.bytes
        places = [hosted.place(now) for hosted in self._everybody]
        entries = [
            msgspec.structs.replace(
                hosted.entry(now), room=room_for(hosted.place(now), places, budget_bytes, now)
            )
            for hosted in self._models.values()
        ]
        return Catalogue(
            worker=self._name,
            instance=self._instance,
            models=entries,
            memory_budget_bytes=budget_bytes or self._usable_bytes,
            memory_used_bytes=sum(h.size_bytes for h in self._everybody if h.running),
            host=socket.gethostname(),
        )

    @property
    def _usable_bytes(self) -> int:
        """What a model that is kept finds that it may take."""
        return sum(hosted.usable_bytes for hosted in self._models.values())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True


def _differs(before: Catalogue | None, after: Catalogue) -> bool:
    """Whether something has changed that does not change by itself as time passes."""
    if before is None:
        return True
    return _settled(before) != _settled(after)


def _settled(catalogue: Catalogue) -> list[tuple[object, ...]]:
    return [(e.name, e.aliases, e.pinned, e.status, e.room, e.error) for e in catalogue.models]


def _budget(settings: Settings, gpu_bytes: int) -> Budget:
    """For several models together; of 0 bytes for one that is kept, if the operator names none."""
    if settings.memory_budget_gib is not None:
        return Budget(int(settings.memory_budget_gib * GIB), explicit=True)
    return Budget(default_budget_bytes(gpu_bytes) if settings.is_host else 0, explicit=False)


def _gpu_memory_bytes() -> int:
    """What the device recommends, 0 without a GPU. Asked in a process of its own: this one lives
    on when MLX aborts."""
    command = [sys.executable, "-m", "worker.engine.model.device"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=ASKING_S, check=True)
        return int(told.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        log.exception("MLX cannot be asked what memory there is; the machine's is taken")
        return 0
