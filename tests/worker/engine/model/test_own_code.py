"""Checkpoints that bring Python of their own, which writes a file whenever it runs."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.worker.engine.driving import Driver, job, picture
from worker.engine.interface import ModelError
from worker.engine.model import own_code
from worker.engine.model.loading import load_weights
from worker.engine.options import EngineOptions

Checkpoint = Callable[[str], Path]


class Trap:
    """A copy of a checkpoint, with Python files that leave a trace."""

    def __init__(self, origin: Path, folder: Path) -> None:
        self.folder = Path(shutil.copytree(origin, folder / "model"))
        self._trace = folder / "trace"

    def code(self, name: str, then: str = "") -> None:
        line = f"import pathlib; pathlib.Path({str(self._trace)!r}).write_text({name!r})\n"
        (self.folder / name).write_text(line + then)

    def change(self, name: str, **entries: Any) -> None:
        file = self.folder / name
        before = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**before, **entries}))

    @property
    def ran(self) -> str:
        return self._trace.read_text() if self._trace.exists() else ""


@pytest.fixture
def trap(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Trap]:
    monkeypatch.setattr("builtins.input", lambda *words: pytest.fail("it asks on a terminal"))
    return lambda family: Trap(checkpoint(family), tmp_path)


TOKENIZER = (
    "from transformers import PreTrainedTokenizerFast\n"
    "class Own(PreTrainedTokenizerFast):\n    pass\n"
)
PROCESSOR = "from transformers import Qwen2VLProcessor\nclass Own(Qwen2VLProcessor):\n    pass\n"
CONFIG = "from transformers import Qwen2VLConfig\nclass Own(Qwen2VLConfig):\n    pass\n"


def test_a_network_of_the_folders_own_is_refused(trap: Callable[[str], Trap]) -> None:
    bad = trap("llama")
    bad.code("network.py", "from mlx_vlm.models.llama import *\n")
    bad.change("config.json", model_file="network.py")
    with pytest.raises(ModelError, match=r"network\.py.*--trust-remote-code"):
        load_weights(bad.folder)
    assert not bad.ran
    load_weights(bad.folder, trust_remote_code=True)
    assert "network.py" in bad.ran


@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "llama", "gemma3", "idefics3"])
def test_what_built_in_classes_serve_is_served_and_nothing_of_the_folder_runs(
    trap: Callable[[str], Trap], family: str
) -> None:
    bad = trap(family)
    for name, then in (("tok", TOKENIZER), ("proc", PROCESSOR), ("conf", CONFIG), ("pix", "")):
        bad.code(f"{name}.py", then)
    every: dict[str, Any] = {
        "AutoConfig": "conf.Own",
        "AutoModel": "conf.Own",
        "AutoModelForCausalLM": "conf.Own",
        "AutoTokenizer": ["tok.Own", "tok.Own"],
        "AutoImageProcessor": "pix.Own",
        "AutoVideoProcessor": "pix.Own",
        "AutoFeatureExtractor": "pix.Own",
    }
    if family != "llama":
        every["AutoProcessor"] = "proc.Own"
    for name in own_code.CONFIGURATIONS:
        if (bad.folder / name).exists():
            bad.change(name, auto_map=every)
    driver = Driver(EngineOptions(model_path=str(bad.folder)))
    images = [picture("red")] if driver.model.abilities.pictures else []
    assert driver.solo(job("a", images=images)).done
    assert not bad.ran


def test_a_tokenizer_that_only_the_folder_has_is_refused(trap: Callable[[str], Trap]) -> None:
    bad = trap("llama")
    bad.code("tok.py", TOKENIZER)
    bad.change("config.json", model_type="kimi_vl")
    bad.change(
        "tokenizer_config.json",
        tokenizer_class="Own",
        auto_map={"AutoTokenizer": ["tok.Own", None]},
    )
    with pytest.raises(ModelError, match=r"tok\.py.*--trust-remote-code"):
        load_weights(bad.folder)
    assert not bad.ran


def test_a_model_that_lacks_something_else_is_told_what(trap: Callable[[str], Trap]) -> None:
    bad = trap("llama")
    bad.change("config.json", auto_map={"AutoConfig": "conf.Own"})
    (bad.folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"No safetensors.*conf\.py was not run"):
        load_weights(bad.folder)


def test_another_tokenizer_does_not_stand_in_for_the_folders_own(
    trap: Callable[[str], Trap],
) -> None:
    bad = trap("llama")
    bad.code("tok.py", TOKENIZER)
    bad.change("tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Own", None]})
    _, processor = load_weights(bad.folder)
    (bad.folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tok\.py"):
        own_code.check_tokenizer(bad.folder, processor)
    assert not bad.ran


def test_whoever_insists_on_the_folders_code_does_not_get_it(trap: Callable[[str], Trap]) -> None:
    """As several of mlx-vlm's processors do, which trust without being told to."""
    bad = trap("llama")
    bad.code("tok.py", TOKENIZER)
    bad.change("tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Own", "tok.Own"]})
    with own_code.forbidden(bad.folder) as guard, pytest.raises(ValueError, match=r"tok\.py"):
        AutoTokenizer.from_pretrained(bad.folder, trust_remote_code=True)
    assert guard.refused == ["tok.py"]
    assert not bad.ran
    AutoTokenizer.from_pretrained(bad.folder, trust_remote_code=True)
    assert bad.ran, "the trap itself"


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("never",)


@pytest.mark.parametrize("family", ["llama", "molmo"])
def test_a_template_cannot_leave_its_sandbox(trap: Callable[[str], Trap], family: str) -> None:
    """Some processors of mlx-vlm, Molmo's too, would let it."""
    bad = trap(family)
    bad.code("never.py")
    script = f"python {bad.folder / 'never.py'}"
    template = f"{{{{ cycler.__init__.__globals__.os.system({script!r}) }}}}{{{{ messages }}}}"
    (bad.folder / "chat_template.jinja").write_text(template)
    failed = Driver(EngineOptions(model_path=str(bad.folder))).solo(job("a")).failed
    assert failed is not None and "access to attribute" in failed.message
    assert not bad.ran


@pytest.mark.parametrize("named", ["../aside/x.safetensors", "/dev/zero", "a/../../x.safetensors"])
def test_weights_are_of_the_folder(trap: Callable[[str], Trap], named: str) -> None:
    bad = trap("llama")
    aside = bad.folder.parent / "aside"
    aside.mkdir()
    shutil.move(bad.folder / "model.safetensors", aside / "x.safetensors")
    bad.change("model.safetensors.index.json", weight_map={"a": named})
    with pytest.raises(ModelError, match=f"outside its folder: {named}"):
        load_weights(bad.folder)


def test_pickles_and_libraries_do_not_run_either(tmp_path: Path) -> None:
    library = tmp_path / "own.so"
    library.write_bytes(b"not one, but nobody is to look")
    with own_code.forbidden(tmp_path) as guard:
        with pytest.raises(own_code.OwnCodeRefused):
            pickle.loads(pickle.dumps(_Payload()))
        with pytest.raises(own_code.OwnCodeRefused):
            ctypes.CDLL(str(library))
        spec = importlib.util.spec_from_file_location("own", library)
        assert spec is not None
        with pytest.raises(own_code.OwnCodeRefused):
            importlib.util.module_from_spec(spec)
    assert [name.split()[-1] for name in guard.refused] == ["posix.mkdir", "own.so"]


def test_a_link_into_the_folder_is_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "own.py").write_text("ran = True\n")
    link = tmp_path / "link"
    link.symlink_to(folder)
    for named, run in ((folder, link / "own.py"), (link, folder / "own.py")):
        spec = importlib.util.spec_from_file_location("own", run)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with own_code.forbidden(named), pytest.raises(own_code.OwnCodeRefused):
            spec.loader.exec_module(module)


def test_code_of_another_repository_is_named_with_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"vision": {"auto_map": {"AutoModel": "someone/else--modeling.Own"}}})
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": ["tok.Own", None]}))
    assert own_code.declared(tmp_path) == ["modeling.py of someone/else", "tok.py"]
