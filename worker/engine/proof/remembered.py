"""Proofs of earlier starts: whoever starts the same model with the same programs need not wait.

A proof is kept in a file named by a digest of all it depends on: the model's files, the engine's
sources, the versions of what it stands on, and the device. Anything unreadable is no proof.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from shared.version import VERSION
from worker.engine.model.device import device_name
from worker.engine.model.family import Abilities
from worker.engine.model.loading import versions
from worker.engine.proof.proof import Proof

log = logging.getLogger(__name__)

SOURCES = Path(__file__).resolve().parent.parent
MOST = 200
"""Proofs in a folder."""
WHOLE_BYTES = 1 << 20
"""Smaller files count with their content, larger ones with their sizes and times."""


def folder(named: str) -> Path:
    """Where proofs are kept: the folder named, or one of the user's caches."""
    if named:
        return Path(named)
    above = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(above) / "proxy-oai-compat" / "proofs"


def digest(model: Path, *, trust_remote_code: bool = False) -> str:
    """Names a proof of the model in this folder, with its own Python or without."""
    found = hashlib.sha256()
    programs = (trust_remote_code, VERSION, *sorted(versions().items()))
    for word in (platform.machine(), device_name(), *programs):
        found.update(repr(word).encode())
    for path in (*_files(SOURCES, "*.py"), *_files(model, "*")):
        facts = path.stat()
        found.update(repr((path.name, facts.st_size)).encode())
        if facts.st_size <= WHOLE_BYTES:
            found.update(path.read_bytes())
        else:
            found.update(repr(facts.st_mtime_ns).encode())
    return found.hexdigest()


def _files(above: Path, pattern: str) -> Iterator[Path]:
    yield from sorted(path for path in above.rglob(pattern) if path.is_file())


def recall(file: Path) -> Proof | None:
    """The proof in that file, if there is one."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return Proof(**{**kept, "abilities": Abilities(**kept["abilities"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        log.debug("a proof cannot be read", exc_info=True)
        return None


def remember(file: Path, proof: Proof) -> None:
    """Keep it, in place of the oldest of many; a disk that is full or not to be written to is no
    obstacle to serving."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as written:
            json.dump(asdict(proof), written)
        os.replace(written.name, file)
        kept = sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for oldest in kept[:-MOST]:
            oldest.unlink(missing_ok=True)
    except OSError as error:
        log.info("this proof is not remembered: %s", error)
