"""The benchmarks are run by hand and seldom: at least each of them can be begun."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_what_a_benchmark_imports_is_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)  # some are begun as scripts, and import what lies beside them
    module = importlib.import_module(f"tests.benchmarks.{name}")
    assert module.__doc__
