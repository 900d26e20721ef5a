"""Are a model's answers in this engine mlx-vlm's own?"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from scripts.doctor_checks.findings import Finding, fine, note, wrong

WITHOUT = {
    "pictures": "Requests with pictures are refused.",
    "several_pictures": "Requests with more than one picture are refused.",
    "picture_splitting": "The pictures of a prompt are encoded together.",
    "vision_cache": "A picture that comes again is encoded again.",
    "prefix_cache": "Every turn of a conversation is read from its start.",
    "pieces": "A long prompt is read in one piece, for which running streams wait.",
    "batching": "Requests are answered one after the other.",
    "speculation": "Tokens are computed one by one, whatever --speculate says.",
}
"""What the worker does where an ability does not hold."""
REMEDY = "Serve another model, or this one when mlx-vlm has mended it."


def check_proof(path: Path) -> Iterator[Finding]:
    """Load the model and try everything with it, as its first start does, one after the other; in
    a process of its own, which a faulty model may bring down."""
    ours, its = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=prove_apart, args=(path, its))
    process.start()
    its.close()
    trying = "it was begun"
    try:
        while isinstance(told := ours.recv(), str):
            trying = told
        yield from told
    except EOFError:
        process.join()
        code = process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"code {code}"
        yield wrong(f"The model's process died ({how}) while {trying}.", REMEDY)
    process.join()


def prove_apart(path: Path, told: Connection) -> None:
    """Tell what is tried, as words, and at last what was found."""
    told.send(list(_findings(path, told.send)))


def _findings(path: Path, trying: Callable[[str], None]) -> Iterator[Finding]:
    # With MLX and mlx-vlm: not for those who only ask after their Python.
    from worker.engine.interface import ModelError, ModelUnavailable
    from worker.engine.load import prove_in_full
    from worker.engine.options import EngineOptions

    try:
        proof = prove_in_full(EngineOptions(model_path=str(path)), trying)
    except (ModelError, ModelUnavailable) as error:
        yield wrong(str(error), REMEDY)
        return
    for ability, held in proof.proven.items():
        if held:
            yield fine(f"Answers are mlx-vlm's own: {ability}")
        else:
            yield note(f"Not {ability}: {proof.reasons[ability]}", WITHOUT[ability])
    yield fine(f"The proof took {proof.seconds:.1f} s; a start remembers its own")
