"""Benchmarks start, and those of the interpreter run."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_what_a_benchmark_imports_is_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _benchmark(name, monkeypatch).__doc__


def _benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)  # some are begun as scripts, and import what lies beside them
    return importlib.import_module(f"tests.benchmarks.{name}")


@pytest.mark.parametrize("kind", ["ours", "dense"])
def test_gathering_and_training_are_measured(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = _benchmark("interpreter_jobs", monkeypatch)
    job = jobs.Job(kind, crops=2, size_px=32, dim=8, precision="no", members=2, steps=2)
    found = getattr(jobs, kind)(job)
    pixels = 2 * 32**2
    assert found["pixels"] == pixels if kind == "dense" else 200 < found["pixels"] <= pixels
    width = {"dense": 4, "ours": 2}[kind] * found["pixels"]  # bytes of one feature of all pixels
    assert found["table_gb"] * 1e9 / width == pytest.approx(10_176 / 64 * 8)  # channels grow with dim
    assert found["training_cpu_s"] > 0


def test_ways_of_segmenting_a_tile_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = _benchmark("tile_steps", monkeypatch)
    tile = steps.draw_picture(32)
    ours, dense = (
        getattr(steps, way)(steps.Job(way, dim=8, size_px=32, precision="no"))(tile) for way in ("ours", "dense")
    )
    assert np.mean(ours.ravel() == dense.numpy()) > 0.99
