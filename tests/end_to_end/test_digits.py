"""The recipe digits: grey images of one channel through the whole job, in this process."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from typer.testing import Result

from tests.apps.conftest import APP

ROOT = Path(__file__).parents[2]
SMALL = (
    "training.crops=32",
    "training.batch=16",
    "training.samples=1",
    "diffusion.timesteps=30",
    "diffusion.dim=8",
    "features.timesteps=[1,5]",
    "interpreter.members=2",
    "interpreter.steps=10",
)


def _job(cytoseg: Callable[..., Result], count: int, *overrides: str) -> Callable[..., str]:
    """Write the digits, train and evaluate; gives a function that runs another command on the recipe."""

    def run(command: str, *arguments: str) -> str:
        result = cytoseg(command, *arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    runpy.run_path(str(ROOT / "examples" / "write_digits.py"))["write_digits"](Path("data/digits"), count)
    run("train-ddpm", "digits", *overrides)
    run("label-import", "data/digits/labelled", "--recipe", "digits", *overrides)
    run("train-interpreter", "digits", *overrides)
    run("evaluate", "digits", "--no-baseline", *overrides)
    return lambda command, *arguments: run(command, "digits", *arguments, *overrides)


@pytest.mark.slow
def test_grey_pictures_go_through_the_whole_job(
    cytoseg: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = _job(cytoseg, 12, *SMALL)
    run("sample", "--n", "8", "--steps", "2")
    with Image.open("runs/digits/samples/sample_00000.png") as picture:
        assert (picture.mode, picture.size) == ("L", (32, 32))
    for drawn in ("samples/grid.png", "ddpm/denoised.png", "ddpm/samples.png"):
        with Image.open(Path("runs/digits") / drawn) as picture:
            assert picture.mode == "L"
    run("score-samples", "--draws", "1")
    scores = json.loads(Path("runs/digits/samples/scores.json").read_text())
    assert scores["count"] == 8
    assert np.isfinite(scores["samples"]["kid"][0])
    run("predict", "data/digits/pictures/b003.png")
    assert list(Path("runs/digits/predictions").glob("b003/*.ome.tif"))
    run("report")
    assert "digits" in Path("runs/digits/report.html").read_text()
    _look(tmp_path, monkeypatch)


def _look(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open the pages of the app that show the run's images."""
    monkeypatch.setenv("CYTOSEG_RUNS", str(folder / "runs"))
    monkeypatch.syspath_prepend(str(APP.parent))
    monkeypatch.setattr(sys, "argv", ["app.py", "--base", str(folder)])
    app = AppTest.from_file(str(APP), default_timeout=90).run()
    for page in ("gallery", "crop", "slides", "annotate"):
        shown = app.switch_page(f"pages/{page}.py").run()
        assert ([*shown.exception], [*shown.error]) == ([], []), page


@pytest.mark.slow
def test_the_recipe_tells_digits_apart(
    cytoseg: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _job(cytoseg, 200, "training.crops=6400")
    found = json.loads(Path("runs/digits/evaluation/evaluation.json").read_text())["methods"][0]
    assert found["miou"] > 0.3, found  # of eleven classes
