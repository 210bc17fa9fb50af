"""The benchmarks are run by hand and seldom: at least each of them can be begun, and those of the interpreter run."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_what_a_benchmark_imports_is_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)  # some are begun as scripts, and import what lies beside them
    module = importlib.import_module(f"tests.benchmarks.{name}")
    assert module.__doc__


def _job(script: str, job: dict[str, Any], asked: str = "") -> dict[str, Any]:
    """Do a benchmark's smallest job in a process of its own, as the benchmark does."""
    command = [sys.executable, str(FOLDER / script), json.dumps(job)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1].removeprefix("@"))
    return found


@pytest.mark.parametrize("kind", ["ours", "dense"])
def test_gathering_and_training_are_measured(kind: str) -> None:
    job = {"kind": kind, "crops": 2, "size_px": 32, "dim": 8, "precision": "no", "members": 2, "steps": 2}
    found = _job("interpreter_jobs.py", job)
    pixels = 2 * 32**2
    assert found["pixels"] == pixels if kind == "dense" else 200 < found["pixels"] <= pixels
    width = {"dense": 4, "ours": 2}[kind] * found["pixels"]  # bytes of one feature of all pixels
    assert found["table_gb"] * 1e9 / width == pytest.approx(10_176 / 64 * 8)  # channels grow with dim
    assert found["peak_mb"] >= found["features_peak_mb"] > 50
    assert found["training_cpu_s"] > 0


@pytest.mark.parametrize("way", ["bare", "ours", "dense"])
def test_segmenting_a_tile_is_measured(way: str) -> None:
    found = _job("tile_steps.py", {"way": way, "dim": 8, "size_px": 32, "precision": "no"}, "go\n")
    assert 0 < found["cpu_s"] < 60
    assert found["peak_mb"] > 50
