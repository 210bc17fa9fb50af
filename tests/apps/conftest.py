"""A synthetic run with known numbers, and the review app on it."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from cytoseg.jobs.processes import Process, birth_of
from tests.apps.sighted import make_run, write_prediction

TESTS = Path(__file__).parents[1]
APP = TESTS.parent / "apps" / "review" / "app.py"
SIGHTED_PX = 600
_components_of_packages = cache(manifest_scanner.scan_component_manifests)


@pytest.fixture(autouse=True)
def _packages_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what Streamlit finds in the installed packages: an AppTest reads the metadata of them all, a server once."""
    monkeypatch.setattr(manifest_scanner, "scan_component_manifests", _components_of_packages)


@pytest.fixture
def made_run(tmp_path: Path) -> Path:
    """runs/quickstart with every part; each crop is 4x4: a grey image, truth all 1, prediction half 1, half 2."""
    run = tmp_path / "runs" / "quickstart"
    shutil.copytree(TESTS / "apps" / "made_run", run)
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    for crop in json.loads((run / "evaluation" / "evaluation.json").read_text())["crops"]:
        folder = run / "evaluation" / crop["folder"]
        folder.mkdir(parents=True)
        grey.save(folder / "image.png")
        Image.new("RGB", (16, 4), (90, 90, 90)).save(folder / "overlay.png")
        Image.fromarray(np.full((4, 4), 1, np.uint8)).save(folder / "truth.png")
        Image.fromarray(np.repeat([1, 2], 8).astype(np.uint8).reshape(4, 4)).save(folder / "prediction.png")
        Image.fromarray(np.full((4, 4), 51, np.uint8)).save(folder / "disagreement.png")
    for name in ("ddpm/samples.png", "ddpm/loss.png", "labels/contact_sheet.png", "predictions/smear_D/preview.png"):
        (run / name).parent.mkdir(exist_ok=True)
        grey.save(run / name)
    return run


@pytest.fixture
def bare_run(made_run: Path) -> Path:
    """A second, older run that has only a recipe."""
    run = made_run.parent / "only a recipe"
    run.mkdir()
    (run / "recipe.yaml").write_text("name: bare\n")
    os.utime(run / "recipe.yaml", (1, 1))
    return run


@pytest.fixture
def review(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., AppTest]:
    """Open a page of the review over tmp_path/runs, with more arguments if given."""
    monkeypatch.setenv("CYTOSEG_RUNS", str(tmp_path / "runs"))
    monkeypatch.syspath_prepend(str(APP.parent))  # `streamlit run` does this itself

    def open_page(page: str, *arguments: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["app.py", *arguments])
        app = AppTest.from_file(str(APP), default_timeout=90)
        return (app if page == "app" else app.switch_page(f"pages/{page}.py")).run()

    return open_page


@pytest.fixture(scope="session")
def sighted_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which runs/sighted was made, to be copied: a copy takes a twentieth of the time."""
    return make_run(tmp_path_factory.mktemp("sighted"), size_px=SIGHTED_PX).parents[1]


@pytest.fixture
def sighted(sighted_once: Path, tmp_path: Path) -> Path:
    """runs/sighted: a slide of 600 px a side with a prediction and a marked crop."""
    shutil.copytree(sighted_once, tmp_path, dirs_exist_ok=True)
    run = tmp_path / "runs" / "sighted"
    write_prediction(run / "predictions" / "board", tmp_path / "slides" / "board.ome.tif", SIGHTED_PX)
    return run


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Note the command lines of jobs, and start nothing; the process they are given is this one."""
    commands: list[list[str]] = []

    def start(command: list[str], **_: Any) -> Process:
        commands.append(command)
        return Process(os.getpid(), birth_of(os.getpid()) or "")

    monkeypatch.setattr("cytoseg.jobs.start_and_cancel.start_apart", start)
    return commands
