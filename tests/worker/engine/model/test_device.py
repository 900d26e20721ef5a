"""What is asked of the device, on a CPU, on Metal and on CUDA, as far as a stand-in can tell."""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass, field
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from worker.engine.model import blas, device, loading
from worker.engine.model.blas import BlasThreads
from worker.engine.model.streams import Streams

GIB = 1 << 30


@dataclass
class Machine:
    """What MLX says there, and what it has been told."""

    name: str
    told: dict[str, str | int]
    gpu: bool = True
    metal: bool = False
    wired: list[int] = field(default_factory=list)
    cached: list[int] = field(default_factory=list)


CPU = Machine("cpu", {"device_name": "a processor"}, gpu=False)
METAL = Machine(
    "metal",
    {
        "device_name": "Apple M9",
        "memory_size": 64 * GIB,
        "max_recommended_working_set_size": 48 * GIB,
    },
    metal=True,
)
CUDA = Machine(
    "cuda", {"device_name": "NVIDIA X100", "total_memory": 80 * GIB, "free_memory": 79 * GIB}
)
SILENT = Machine("silent", {})
GPUS = [METAL, CUDA, SILENT]


@pytest.fixture
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Machine:
    chosen: Machine = request.param
    monkeypatch.setattr(mx, "default_device", lambda: mx.gpu if chosen.gpu else mx.cpu)
    monkeypatch.setattr(mx.metal, "is_available", lambda: chosen.metal)
    monkeypatch.setattr(mx, "device_info", lambda device: chosen.told)
    monkeypatch.setattr(mx, "set_wired_limit", chosen.wired.append)
    monkeypatch.setattr(mx, "set_cache_limit", chosen.cached.append)
    chosen.wired.clear()
    chosen.cached.clear()
    return chosen


def on(*machines: Machine) -> pytest.MarkDecorator:
    names = [machine.name for machine in machines]
    return pytest.mark.parametrize("machine", machines, ids=names, indirect=True)


@on(CPU, *GPUS)
def test_metal_is_one_kind_of_gpu(machine: Machine) -> None:
    assert device.has_gpu() == machine.gpu
    assert device.has_metal() == machine.metal


@on(METAL)
def test_a_cpu_that_was_chosen_on_a_mac_is_a_cpu(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mx, "default_device", lambda: mx.cpu)
    assert not device.has_gpu() and not device.has_metal()
    assert device.set_memory_limits() is None


@on(CPU, METAL, CUDA, SILENT)
def test_the_device_is_called_by_its_name(machine: Machine) -> None:
    expected = {
        "cpu": f"CPU ({platform.machine()})",
        "metal": "Apple M9",
        "cuda": "NVIDIA X100",
        "silent": "GPU",
    }
    assert device.device_name() == expected[machine.name]


@on(METAL)
def test_metal_wires_what_it_recommends(machine: Machine) -> None:
    assert device.set_memory_limits() == 48 * GIB
    assert machine.wired == [48 * GIB]
    assert machine.cached == [12 * GIB]


@on(CUDA)
def test_cuda_wires_nothing_and_has_all_of_the_card(machine: Machine) -> None:
    assert device.set_memory_limits() == 80 * GIB
    assert machine.wired == []
    assert machine.cached == [20 * GIB]


@on(CPU, SILENT)
def test_without_a_figure_no_limit_is_set(machine: Machine) -> None:
    assert device.set_memory_limits() is None
    assert machine.wired == machine.cached == []


@on(*GPUS)
def test_a_gpu_has_one_stream(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "thread_count", lambda: 4)
    monkeypatch.setattr(mx, "default_stream", lambda device: mx.new_stream(mx.cpu))
    assert len(Streams.of_this_machine()) == 1


@on(CPU)
def test_a_cpu_has_a_stream_for_each_core(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blas, "thread_count", lambda: 3)
    assert len(Streams.of_this_machine()) == 3


@on(*GPUS)
def test_nobody_times_or_misses_a_blas_beside_a_gpu(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blas, "is_loaded", lambda: False)
    monkeypatch.setattr(blas, "thread_count", lambda: 8)
    assert blas.choose_threads(None, gpu=device.has_gpu()) == BlasThreads(8, 8)  # type: ignore[arg-type]
    assert not caplog.records


@on(CPU)
def test_a_cpu_without_a_fast_blas_is_told_of(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blas, "is_loaded", lambda: False)
    monkeypatch.setattr(blas, "thread_count", lambda: 1)
    monkeypatch.setattr("sys.platform", "linux")
    with caplog.at_level(logging.WARNING):
        assert blas.choose_threads(None, gpu=device.has_gpu()) == BlasThreads(1, 1)  # type: ignore[arg-type]
    assert "no OpenBLAS found" in caplog.text


@on(CPU, METAL, CUDA)
def test_only_a_cpu_computes_half_precision_in_float32(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = nn.Linear(2, 2)
    network.set_dtype(mx.bfloat16)
    monkeypatch.setattr("mlx_vlm.utils.load", lambda folder, **options: (network, None))
    (tmp_path / "config.json").write_text("{}")
    loading.load_weights(tmp_path)
    assert network.weight.dtype == (mx.bfloat16 if machine.gpu else mx.float32)
