"""A smaller model drafts: whatever it says, the answers are those without it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from scripts.checkpoints.building import build
from shared.messages import Job, ResponseFormat, Sampling
from tests.worker.engine.driving import Driver, job, picture, sampled
from worker.engine.draft_model import draft_model
from worker.engine.draft_model.fitting import load_draft_model
from worker.engine.drafts.policy import Costs
from worker.engine.interface import ModelError
from worker.engine.options import EngineOptions

Made = tuple[Job, list[bytes]]
LIST = ResponseFormat(schema={"type": "array", "items": {"enum": ["ab", "a"]}, "minItems": 2})


def disturbed(model: Path, folder: Path, noise: float) -> Path:
    """The same model with other weights, near its own."""
    shutil.copytree(model, folder)
    mx.random.seed(3)
    weights: dict[str, mx.array] = mx.load(str(folder / "model.safetensors"))  # type: ignore[assignment]
    changed = {
        name: value + noise * mx.random.normal(value.shape) for name, value in weights.items()
    }
    mx.save_safetensors(str(folder / "model.safetensors"), changed, metadata={"format": "mlx"})
    return folder


@pytest.fixture(scope="module")
def near(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disturbed(checkpoint("qwen2_vl"), tmp_path_factory.mktemp("near") / "model", 0.02)


class Pair:
    """One engine, asked without drafts and with those of a model.

    Args:
        drafter: of the model that drafts; what a pass costs is taken to be nothing.
    """

    def __init__(self, model: Path, drafter: Path) -> None:
        self.options = EngineOptions(str(model), prefix_cache_bytes=0, speculate=str(drafter))
        self.driver = Driver(self.options)
        self.speculation = self.driver.engine.speculation
        self.speculation.costs = Costs()
        assert self.speculation.draft_model is not None
        self.draft_model = self.speculation.draft_model

    def tokens(self, *jobs: Made, speculate: str = "") -> list[list[list[int]]]:
        """Of each job's choices, all asked at once."""
        options = replace(self.options, speculate=speculate or self.options.speculate)
        self.speculation.draft_model = self.draft_model
        self.driver.engine.begin_anew(options)
        results = self.driver.run(*jobs)
        return [
            [result.tokens_of(choice) for choice in range(made.choices)]
            for result, (made, _) in zip(results, jobs, strict=True)
        ]

    def share(self) -> float:
        """How many of the drafted tokens were right."""
        return self.speculation.accepted / self.speculation.drafted


@pytest.fixture(scope="module")
def twins(checkpoint: Callable[[str], Path]) -> Pair:
    return Pair(checkpoint("qwen2_vl"), checkpoint("qwen2_vl"))


@pytest.fixture(scope="module")
def pair(checkpoint: Callable[[str], Path], near: Path) -> Pair:
    return Pair(checkpoint("qwen2_vl"), near)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Prompts are read in several pieces, and rows catch up in several passes."""
    monkeypatch.setattr(draft_model, "PIECE_TOKENS", 7)
    monkeypatch.setattr(draft_model, "WIDEST", 2)
    yield


ASKED: tuple[Made, ...] = (
    job("greedy", "Hello there", max_tokens=30, ignore_eos=True),
    job(
        "hot", "What is this? " * 9, sampling=sampled(11), max_tokens=41, choices=2, ignore_eos=True
    ),
    job(
        "narrow",
        sampling=sampled(6, top_p=0.8, logit_bias={40: 4.0}),
        max_tokens=25,
        ignore_eos=True,
    ),
    job("penalized", sampling=sampled(7, presence_penalty=1.5), max_tokens=20, logprobs=2),
    job("list", sampling=sampled(8), max_tokens=20, response_format=LIST),
    job("seen", "And this?", [picture("red")], sampling=sampled(9), max_tokens=20),
    job("short", max_tokens=1),
)


def test_the_same_model_is_always_right(twins: Pair) -> None:
    for made in ASKED[:3]:
        expected = twins.tokens(made, speculate="off")
        assert twins.tokens(made) == expected
        assert twins.speculation.drafted > 10 and twins.share() == 1.0


def test_it_changes_nothing_but_the_time(pair: Pair, small_pieces: None) -> None:
    expected = [pair.tokens(made, speculate="off")[0] for made in ASKED]
    assert pair.tokens(*ASKED) == expected
    assert 0.0 < pair.share() < 1.0
    assert pair.tokens(*reversed(ASKED)) == expected[::-1]
    for made, alone in zip(ASKED, expected, strict=True):
        assert pair.tokens(made) == [alone]


def test_rows_that_leave_are_forgotten(pair: Pair) -> None:
    pair.tokens()
    engine, driver = pair.driver.engine, pair.driver
    for made in ASKED[:3]:
        driver.submit(made)
    driver.until(lambda: pair.speculation.accepted > 0)
    follows = len(pair.draft_model)
    assert engine.cancel("hot")
    assert len(pair.draft_model) < follows
    driver.until(lambda: driver.results["greedy"].over and driver.results["narrow"].over)
    assert len(pair.draft_model) == 0


def test_a_draft_model_that_fails_is_done_without(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pair.tokens(*ASKED, speculate="off")
    forward, calls = pair.draft_model.model.forward, []

    def fails(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) > 12:
            raise RuntimeError("[malloc] Unable to allocate 1 bytes.")
        return forward(*given, **named)

    monkeypatch.setattr(pair.draft_model.model, "forward", fails)
    assert pair.tokens(*ASKED) == expected
    assert pair.speculation.draft_model is None and pair.speculation.on


def test_it_is_counted_in_the_memory_of_the_engine(pair: Pair) -> None:
    memory, model = pair.driver.engine.memory, pair.driver.model
    drafter = pair.draft_model.model
    assert memory.bytes_per_token == model.bytes_per_token + drafter.bytes_per_token
    assert memory.model_bytes >= model.weight_bytes + drafter.weight_bytes
    assert memory.estimate(10, 10, 1, asked=True) == (
        model.footprint.row_bytes(20) + drafter.footprint.row_bytes(20)
    )


def other_words(folder: Path) -> None:
    """Each id of the vocabulary stands for the word of another one."""
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    words = content["model"]["vocab"]
    content["model"]["vocab"] = {word: len(words) - 1 - index for word, index in words.items()}
    file.write_text(json.dumps(content))


def kind_of_mlx_vlm(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "eagle3"}))


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (other_words, "are others than in its vocabulary"),
        (kind_of_mlx_vlm, "eagle3 is of mlx-vlm's kind eagle3"),
        (no_weights, "mlx-vlm cannot load"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(
    spoil: Callable[[Path], None], said: str, pair: Pair, near: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "drafter"
    shutil.copytree(near, folder)
    spoil(folder)
    with pytest.raises(ModelError, match=said) as refused:
        load_draft_model(replace(pair.options, speculate=str(folder)), pair.driver.model)
    assert str(refused.value).startswith(f"--speculate: {folder} cannot draft for this model: ")


def test_a_model_whose_caches_take_nothing_back_does_not_draft(pair: Pair, tmp_path: Path) -> None:
    folder = build("gemma3", tmp_path / "sliding")
    shutil.copy(Path(pair.options.model_path) / "tokenizer.json", folder)
    with pytest.raises(ModelError, match="its caches cannot take tokens back"):
        load_draft_model(replace(pair.options, speculate=str(folder)), pair.driver.model)


def test_a_greedy_row_at_most_drafts_to_its_limit(twins: Pair) -> None:
    made = job("x", sampling=Sampling(seed=0, temperature=0.0), max_tokens=2, ignore_eos=True)
    expected = twins.tokens(made, speculate="off")
    assert twins.tokens(made) == expected
    assert twins.speculation.drafted <= 1
