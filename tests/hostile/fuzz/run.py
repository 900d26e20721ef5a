"""Coverage-guided fuzzing of one target (`scripts/fuzz requests --seconds 300`).

What it finds new goes into a folder of its own; `--keep` adds to the corpus that the tests replay
what reaches lines of ours that nothing before has reached, the smallest first.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

import atheris

with atheris.instrument_imports(include=["gateway", "shared"]):
    from tests.hostile.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[3]
CORPUS = ROOT / "tests" / "hostile" / "corpus"
OURS = (str(ROOT / "gateway"), str(ROOT / "shared"))
MOST_BYTES = 4096


def fuzz(target: str, arguments: Sequence[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    atheris.Setup([sys.argv[0], *arguments], TARGETS[target])
    atheris.Fuzz()


def own(target: str, *arguments: str) -> int:
    """Run libFuzzer in a process of its own."""
    command = [sys.executable, "-m", "tests.hostile.fuzz.run", target, "--libfuzzer", *arguments]
    return subprocess.run(command, check=False).returncode


def keep(target: str, found: Path) -> int:
    """Add to the corpus what reaches new lines; return how much that is."""
    kept = CORPUS / target
    known: set[tuple[str, int]] = set()
    for path in kept.iterdir():
        known |= lines_reached(target, path.read_bytes())
    added = 0
    for data in sorted((path.read_bytes() for path in found.iterdir()), key=len):
        reached = lines_reached(target, data)
        if not reached <= known:
            known |= reached
            (kept / sha256(data).hexdigest()[:12]).write_bytes(data)
            added += 1
    return added


def lines_reached(target: str, data: bytes) -> set[tuple[str, int]]:
    """The lines of ours that one input runs through."""
    reached: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        reached.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        TARGETS[target](data)
    finally:
        sys.settrace(None)
    return reached


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60, help="[default: 60]")
    parser.add_argument("--keep", action="store_true", help="merge what was found into the corpus")
    parser.add_argument("--libfuzzer", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.libfuzzer is not None:
        fuzz(options.target, options.libfuzzer)
    kept = CORPUS / options.target
    with tempfile.TemporaryDirectory() as found:
        limits = (f"-max_total_time={options.seconds}", f"-max_len={MOST_BYTES}", "-timeout=10")
        code = own(options.target, found, str(kept), *limits, "-print_final_stats=1")
        if code == 0 and options.keep:
            print(f"kept {keep(options.target, Path(found))} inputs more")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
