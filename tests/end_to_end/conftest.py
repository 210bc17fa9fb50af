"""A run small enough for the whole job in seconds, and the real command."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cytoseg.cli import build_app
from cytoseg.interpreter.unet_baseline import ScratchUnet, fit_scratch
from cytoseg.labels.index import CropName, LabelIndex, load_index, write_crop, write_index
from cytoseg.recipe import load_recipe
from cytoseg.workflows import drawn_samples
from tests.end_to_end.cases import EFFORT, cut_part, make_inputs
from tests.end_to_end.forked import Forked

SOURCES = Path(__file__).parents[2]
RECIPE = """\
name: tiny
slides: {folders: [made/slides], mpp: 0.5}
crops: {size_px: 32}
diffusion: {dim: 8, dim_mults: [1, 2], timesteps: 10, schedule: cosine}
training: {crops: 24, batch: 8, rate: 1e-3, checkpoint_crops: 8, workers: 0, samples: 2, device: cpu}
classes:
  - {name: background, colour: "#f0f0f0"}
  - {name: cytoplasm, colour: "#56b4e9"}
  - {name: nucleus, colour: "#d55e00"}
fill: background
labels: {test_slides: ["*_00", "*_01"], crop_px: 32}
features: {timesteps: [1, 5]}
interpreter: {members: 2, steps: 40, pixels_per_crop: 200}
decoder: {size_px: 32, batch: 2}
predict: {tile_px: 32, overlap_px: 8, batch: 4}
objects: {exact_outlines: true}  # simpler ones of the specks that so small a model sees take longer than its prediction
"""
GENERATE = "slides generate made --n 3 --width 256 --height 256 --crops 2 --crop-px 64 --seed 2"
STEPS = (
    "train-ddpm tiny.yaml",
    "label-crops tiny.yaml --n 2",
    "label-import made/labelled --recipe tiny.yaml",
    "train-interpreter tiny.yaml",
    "evaluate tiny.yaml",
    "predict tiny.yaml made/slides/made_2_00.ome.tif",
    "report tiny.yaml",
)

Command = Callable[..., Result]


def _refuse(_name: str) -> None:
    raise OSError("not in tests")


def run_command(*arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        # The allocator of this process is left alone: tuned, it gives nothing back and grows from test to test.
        patch.setattr("cytoseg.allocator.ctypes", types.SimpleNamespace(CDLL=_refuse))
        # Baselines as small as the run.
        patch.setattr("cytoseg.interpreter.forest.TREES", 10)
        patch.setattr("cytoseg.interpreter.unet_baseline.CHANNELS", (8, 16, 16, 16))
        patch.setattr("cytoseg.interpreter.unet_baseline.CROP_PX", 32)
        result = CliRunner().invoke(build_app(arguments[0]), list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception  # a bug, which the command line shows as such
    return result


@pytest.fixture(scope="session")
def cytoseg() -> Command:
    """Run a command in this process: ``cytoseg("train-ddpm", "tiny.yaml")`` gives exit status, stdout and stderr."""
    return run_command


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Result]]:
    """The main job done once by its commands: where it was done, and what each command said. Not to be changed."""
    home = tmp_path_factory.mktemp("made_run")
    (home / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        results = {line.split()[0]: run_command(*line.split()) for line in (GENERATE, *STEPS)}
    wrong = {name: result.output for name, result in results.items() if result.exit_code != 0}
    assert not wrong, wrong
    return home, results


@pytest.fixture
def home(made_run: tuple[Path, dict[str, Result]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the made run to spoil, which is also the working folder."""
    copy = tmp_path / "home"
    shutil.copytree(made_run[0], copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def short_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train the networks that are compared for two steps."""

    def short_scratch(*arguments: Any, **keywords: Any) -> ScratchUnet:
        return fit_scratch(*arguments, **(keywords | {"steps": 2}))

    monkeypatch.setattr("cytoseg.workflows.compared_methods.IMAGENET_STEPS", 2)
    monkeypatch.setattr("cytoseg.workflows.compared_methods.fit_scratch", short_scratch)


@pytest.fixture
def case_home(home: Path, short_networks: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the made run with the further inputs of ``CASES``, whose commands take every sample and few steps."""
    make_inputs(home)
    monkeypatch.setattr(drawn_samples, "fault_of", lambda _: None)
    monkeypatch.setattr("cytoseg.workflows.robustness.QUICK", ("commonest",))
    monkeypatch.setattr("cytoseg.commands.select_features.EFFORT", EFFORT)
    return home


@pytest.fixture
def part(home: Path) -> str:
    """part.tif of 80 x 80 px, cut out of a made slide, for tests that need no whole slide."""
    return cut_part("made_2_00", "part.tif")


def cut_labels(home: Path) -> None:
    """Cut the labelled crops of the tiny run, 64 px wide, to their middle 32 px."""
    index, classes = load_index(home / "runs" / "tiny" / "labels"), load_recipe(str(home / "tiny.yaml")).class_list()
    middle = (slice(16, 48), slice(16, 48))
    for crop in index.crops:
        assert (crop.width, crop.height) == (64, 64)
    cut = [
        write_crop(
            index.folder,
            CropName(crop.crop, crop.slide, crop.source),
            picture=crop.picture()[middle],
            label_map=crop.label_map()[middle],
            classes=classes,
        )
        for crop in index.crops
    ]
    write_index(LabelIndex(index.folder, index.classes, tuple(cut)))


@pytest.fixture
def contents(home: Path) -> Callable[[], dict[str, str]]:
    """Give the hash of every file, hidden ones too, except those in which every command records itself."""

    def read() -> dict[str, str]:
        files = (p for p in home.rglob("*") if p.is_file() and p.name not in ("run.json", "recipe.yaml"))
        return {str(p.relative_to(home)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    return read


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Let started processes hear Ctrl-C: a shell starts background jobs deaf to it, and with them a suite."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start(home: Path, hears_ctrl_c: None) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a command in a process of its own, in the working folder."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "cytoseg", *arguments],
            cwd=home,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def fork(home: Path) -> Iterator[Callable[..., Forked]]:
    """Start a command in a fork of this process, in the working folder."""
    if not hasattr(os, "fork"):
        pytest.skip("needs POSIX: commands are run in forks")
    started: list[Forked] = []

    def begin(*arguments: str, **environment: str) -> Forked:
        started.append(Forked(*arguments, **environment))
        return started[-1]

    yield begin
    for process in started:
        process.close()
