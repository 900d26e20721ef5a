"""Coverage-guided fuzzing of one door (`scripts/fuzz requests --seconds 300`).

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
    from tests.hostile.fuzz.doors import DOORS

ROOT = Path(__file__).resolve().parents[3]
CORPUS = ROOT / "tests" / "hostile" / "corpus"
OURS = (str(ROOT / "gateway"), str(ROOT / "shared"))
MOST_BYTES = 4096


def fuzz(door: str, arguments: Sequence[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    atheris.Setup([sys.argv[0], *arguments], DOORS[door])
    atheris.Fuzz()


def own(door: str, *arguments: str) -> int:
    """Run libFuzzer in a process of its own."""
    command = [sys.executable, "-m", "tests.hostile.fuzz.run", door, "--libfuzzer", *arguments]
    return subprocess.run(command, check=False).returncode


def keep(door: str, found: Path) -> int:
    """Add to the corpus what reaches new lines; return how much that is."""
    kept = CORPUS / door
    known: set[tuple[str, int]] = set()
    for path in kept.iterdir():
        known |= lines_reached(door, path.read_bytes())
    added = 0
    for data in sorted((path.read_bytes() for path in found.iterdir()), key=len):
        reached = lines_reached(door, data)
        if not reached <= known:
            known |= reached
            (kept / sha256(data).hexdigest()[:12]).write_bytes(data)
            added += 1
    return added


def lines_reached(door: str, data: bytes) -> set[tuple[str, int]]:
    """The lines of ours that one input runs through."""
    reached: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        reached.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        DOORS[door](data)
    finally:
        sys.settrace(None)
    return reached


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("door", choices=DOORS)
    parser.add_argument("--seconds", type=int, default=60, help="[default: 60]")
    parser.add_argument("--keep", action="store_true", help="merge what was found into the corpus")
    parser.add_argument("--libfuzzer", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.libfuzzer is not None:
        fuzz(options.door, options.libfuzzer)
    kept = CORPUS / options.door
    with tempfile.TemporaryDirectory() as found:
        limits = (f"-max_total_time={options.seconds}", f"-max_len={MOST_BYTES}", "-timeout=10")
        code = own(options.door, found, str(kept), *limits, "-print_final_stats=1")
        if code == 0 and options.keep:
            print(f"kept {keep(options.door, Path(found))} inputs more")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
