"""The process that holds the model: an engine thread and a link thread.

Started by the supervisor, which it tells through a pipe how it is doing. It ends with one of the
codes of `supervisor_pipe`, or by a signal when MLX aborts.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from shared import logs
from shared.settings import load
from worker import begun_runs, memory_share
from worker.begun_runs import BegunRuns
from worker.engine.interface import Engine, EngineFactory, Report, Trying, WakeLoop
from worker.link.draining import Ending
from worker.link.engine_outputs import EngineOutputs
from worker.link.link import Link
from worker.loop import EngineLoop, EngineThread
from worker.settings import Settings
from worker.supervisor_pipe import (
    EXIT_CRASHED,
    EXIT_HOPELESS,
    EXIT_LEFT,
    EXIT_RECYCLE,
    LEAVE_SOON,
    LEAVE_WHEN_IDLE,
    PIPE_VARIABLE,
    SupervisorPipe,
)


def engine_factory(settings: Settings, trying: Trying) -> EngineFactory:
    """Choose the engine; MLX is imported only on the engine thread, and only when wanted.

    Args:
        trying: hears what is done to make a model ready.
    """

    def make_scripted(report: Report, wake: WakeLoop) -> Engine:
        from worker.engine.scripted import ScriptedEngine

        return ScriptedEngine()

    def make_mlx(report: Report, wake: WakeLoop) -> Engine:
        from worker.engine.load import load_engine

        options = replace(settings.engine_options(), memory=memory_share.told(settings))
        return load_engine(options, report, wake, trying)

    return make_scripted if settings.engine == "scripted" else make_mlx


def main(argv: Sequence[str] | None = None) -> int:
    settings = load(Settings, "WORKER", argv)
    name = settings.name or f"worker-{os.getpid()}"
    logs.configure(settings.log_level, settings.log_format, name)
    descriptor = os.environ.get(PIPE_VARIABLE)
    pipe = SupervisorPipe(int(descriptor) if descriptor else None)
    runs_file = os.environ.get(begun_runs.VARIABLE)
    runs = BegunRuns(int(runs_file)) if runs_file else None

    def report() -> None:
        if not pipe.due():
            return
        progress = loop.progress
        facts = progress.facts
        pipe.tell(
            state=progress.state,
            active=len(link.slots),
            step_age_s=progress.age_s(),
            fraction=progress.loaded_fraction,
            memory_bytes=int(progress.gauges.get("memory_bytes", 0)),
            usable_bytes=int(progress.gauges.get("memory_usable_bytes", 0)),
            context_tokens=facts.context_tokens if facts else None,
            vision=facts.vision if facts else None,
        )

    outputs = EngineOutputs()
    loop = EngineLoop(engine_factory(settings, pipe.trying), outputs.publish, runs)
    link = Link(settings, name, loop, outputs, report)
    engine = EngineThread(loop)
    engine.start()
    for number in (LEAVE_SOON, signal.SIGINT):
        signal.signal(number, lambda *_: link.drain())
    signal.signal(LEAVE_WHEN_IDLE, lambda *_: link.drain(when_idle=True))
    ending = link.run(engine.is_alive)
    if engine.hopeless is not None:
        pipe.tell(hopeless=str(engine.hopeless))
        code = EXIT_HOPELESS
    elif not engine.is_alive():
        code = EXIT_CRASHED
    else:
        code = EXIT_RECYCLE if ending is Ending.RECYCLE else EXIT_LEFT
    logging.shutdown()
    # MLX may abort in its static destructors while its thread still computes.
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
