"""A model folder's own Python, which runs only if the operator says so.

A folder can bring code in two ways: `model_file` in `config.json`, which mlx-vlm imports, and
`auto_map` in any configuration, whose classes transformers copies to its module cache and imports.
Several of mlx-vlm's processors ask for the second, whatever their caller wants. So it is not left
to arguments: while a model is loaded, the interpreter itself refuses to execute such a file (an
audit hook, PEP 578), to load a library out of the folder, and to look up what a pickle names.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers.utils import HF_MODULES_CACHE

from worker.engine.interface import ModelError
from worker.engine.model.config import read_json

FLAG = "--trust-remote-code"
CONFIGURATIONS = (
    "config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)


class OwnCodeRefused(ValueError):
    """Something tried to run a file of a folder that is not trusted.

    A `ValueError`, as transformers raises it: whoever falls back on a built-in class then, can.
    """


@dataclass
class Guard:
    """What was refused while it was up: names of files, in order."""

    roots: tuple[str, ...]
    thread: int
    refused: list[str] = field(default_factory=list)

    def check(self, event: str, arguments: tuple[Any, ...]) -> None:
        """
        Raises:
            OwnCodeRefused: the interpreter is about to run what the folder brings.
        """
        if event == "pickle.find_class" and threading.get_ident() == self.thread:
            self._refuse(f"a pickle that names {arguments[0]}.{arguments[1]}")
        path = _executed_file(event, arguments)
        if path is not None and self._within(path):
            self._refuse(os.path.basename(path))

    def _within(self, path: str) -> bool:
        spellings = (path, os.path.abspath(path), os.path.realpath(path))
        return any(spelling.startswith(self.roots) for spelling in spellings)

    def _refuse(self, name: str) -> None:
        if name not in self.refused:
            self.refused.append(name)
        raise OwnCodeRefused(f"{name} is not run without {FLAG}.")


@contextlib.contextmanager
def forbidden(folder: Path) -> Iterator[Guard]:
    """Within it nothing runs that the folder, or a hub in its name, brings."""
    places = (str(folder), os.path.abspath(folder), os.path.realpath(folder), HF_MODULES_CACHE)
    guard = Guard(tuple(place + os.sep for place in places), threading.get_ident())
    _install_hook()
    _guards.append(guard)
    try:
        yield guard
    finally:
        _guards.remove(guard)


def check_model_file(folder: Path) -> None:
    """
    Raises:
        ModelError: the network itself is a file of the folder (or of anywhere else).
    """
    model_file = read_json(folder / "config.json").get("model_file")
    if model_file:
        raise refusal(folder, [str(model_file)])


def check_tokenizer(folder: Path, tokenizer: Any) -> None:
    """Refuse a class that stands in for the folder's own where no `tokenizer.json` defines both.

    Raises:
        ModelError: the tokens would be those of another tokenizer.
    """
    if (folder / "tokenizer.json").is_file():
        return
    own = [
        reference
        for name, reference in _references(read_json(folder / "tokenizer_config.json"))
        if name == "AutoTokenizer"
    ]
    loaded = type(tokenizer).__name__.removesuffix("Fast")
    if own and loaded not in {one.rpartition(".")[2].removesuffix("Fast") for one in own}:
        raise refusal(folder, _files(own))


def refusal(folder: Path, names: list[str]) -> ModelError:
    return ModelError(
        f"The model {folder.name} needs Python of its own, {', '.join(names)}, which runs only "
        f"with {FLAG}: give that if you have read the code and trust it."
    )


def explained(error: ModelError, folder: Path, guard: Guard) -> ModelError:
    """What to say of a model that was not loaded: whether its own code was what it lacked."""
    names = declared(folder)
    if guard.refused or (names and "custom code" in str(error)):  # transformers' words
        return refusal(folder, guard.refused or names)
    if names:
        return ModelError(f"{error} (Its own {', '.join(names)} was not run; {FLAG} runs it.)")
    return error


def declared(folder: Path) -> list[str]:
    """Return the Python files that the folder's configurations name, without repetition."""
    found: list[str] = []
    for name in CONFIGURATIONS:
        found += [reference for _, reference in _references(read_json(folder / name))]
    return _files(found)


def _references(configuration: Any) -> Iterator[tuple[str, str]]:
    """Yield the entries of each `auto_map`, however deep: the auto class and "module.Class"."""
    if isinstance(configuration, list):
        for part in configuration:
            yield from _references(part)
    if not isinstance(configuration, dict):
        return
    for name, value in configuration.items():
        if name != "auto_map":
            yield from _references(value)
            continue
        # Old tokenizers have a bare list of their classes.
        entries = value if isinstance(value, dict) else {"AutoTokenizer": value}
        for auto_class, references in entries.items():
            for one in references if isinstance(references, list) else [references]:
                if isinstance(one, str):
                    yield str(auto_class), one


def _files(references: list[str]) -> list[str]:
    """From "module.Class" or "owner/repository--module.Class" to file names."""
    files = []
    for reference in references:
        repository, _, own = reference.rpartition("--")
        file = own.rpartition(".")[0] + ".py"
        files.append(f"{file} of {repository}" if repository else file)
    return list(dict.fromkeys(files))


_guards: list[Guard] = []


@functools.cache
def _install_hook() -> None:
    """Once: an audit hook stays for the life of its process."""
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    for guard in _guards:
        guard.check(event, arguments)


def _executed_file(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The file that is about to run: Python code, an extension module or a library."""
    if event == "exec":
        found = getattr(arguments[0], "co_filename", None)
    elif event == "import":
        found = arguments[1]  # None for all but extension modules
    elif event == "ctypes.dlopen":
        found = arguments[0]
    else:
        return None
    return os.fsdecode(found) if isinstance(found, str | bytes) else None
