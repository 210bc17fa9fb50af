import csv
import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from importlib.metadata import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

import cytoseg as package
from cytoseg.checkpoints import load_checkpoint, save_checkpoint
from cytoseg.devices import computes_bf16
from cytoseg.recipe import load_recipe
from cytoseg.workflows import feature_check
from cytoseg.workflows.feature_check import check_after_training, tissue_pictures
from cytoseg.workflows.training_crops import tissue_crops

CytosegCommand = Callable[..., Result]


def rows(result: Result) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]
    return {line[0]: line[1:] for line in lines}


def test_doctor_shows_versions_and_devices(cytoseg: CytosegCommand) -> None:
    result = cytoseg("doctor")
    assert result.exit_code == 0, result.output
    found = rows(result)
    assert found["cytoseg"][0] == package.__version__
    assert found["torch"][0] == torch.__version__
    assert re.match(r"([2-9]|\d\d+) cores, |1 core, ", found["processor"][0])
    assert found["processor"][0].endswith(
        "bf16" if computes_bf16(torch.device("cpu")) else "no bf16: fp32 is used instead"
    )
    assert "free here" in found["disk"][0]
    assert found["torchvision"][0] in ("healthy", "patched: built for another torch")


def test_doctor_says_how_to_get_what_is_missing(cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = rows(cytoseg("doctor"))
    assert found["openslide: NDPI, MRXS, SCN and other vendors' slides"] == [
        "missing",
        "pip install 'cytoseg[openslide]'",
    ]
    assert found["zarr: OME-Zarr slides"] == ["missing", "pip install 'cytoseg[zarr]'"]
    assert found["streamlit: the review app"] == ["missing", "pip install 'cytoseg[app]'"]
    assert found["labelme: annotating"] == ["missing", "pip install 'cytoseg[label]'"]
    # Each extra of pyproject.toml that users install is listed once.
    extras = metadata("cytoseg").get_all("Provides-Extra") or []
    advised = [re.search(r"cytoseg\[(\w+)\]", cells[1]) for cells in found.values()]
    assert sorted(match[1] for match in advised if match) == sorted({*extras} - {"dev", "docs"})


SHORT = ("training.crops=4", "training.batch=2", "training.samples=0", "training.workers=0")
SMALL = "predict: {tile_px: 32, overlap_px: 8}\n"
"""Features are looked at in crops of a tile's size: a quarter of the slide's 64 px."""
CHECK = Path("runs", "tiny", "check")


@pytest.fixture
def small(cytoseg: CytosegCommand) -> CytosegCommand:
    """The commands on a recipe of small tiles."""
    with open("tiny.yaml", "a", encoding="utf-8") as recipe:
        recipe.write(SMALL)
    return cytoseg


@pytest.fixture(scope="module")
def runs_once() -> dict[str, Path]:
    """The runs/ of a training that ended with its check, once one was made."""
    return {}


@pytest.fixture
def trained(small: CytosegCommand, runs_once: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training that ended with its check; trained once for all tests, and copied."""
    if "runs" not in runs_once:
        assert small("train-ddpm", "tiny.yaml", *SHORT).exit_code == 0
        runs_once["runs"] = tmp_path_factory.mktemp("trained") / "runs"
        shutil.copytree("runs", runs_once["runs"])
    else:
        shutil.copytree(runs_once["runs"], "runs")
    return Path("runs", "tiny")


def label(slides: str = "abcd") -> None:
    """Write two labelled crops of 32x32 pixels of each slide: a dark square of cell on glass."""
    rng = np.random.default_rng(0)
    for number, slide in enumerate(slides * 2):
        ids = np.zeros((32, 32), np.uint8)
        ids[8:24, 4 + number : 20 + number] = 1
        picture = np.where(ids[..., None] == 1, (120, 60, 150), (245, 245, 245)) + rng.integers(-8, 9, (32, 32, 3))
        for folder, array in (("images", picture.astype(np.uint8)), ("masks", ids)):
            (Path("labelled") / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(Path("labelled") / folder / f"{slide}_{number}.png")


def import_labels(cytoseg: CytosegCommand) -> None:
    line = ("label-import", "labelled", "--recipe", "tiny.yaml", "--slide-regex", r"^(\w)_")
    assert cytoseg(*line).exit_code == 0


def test_without_a_checkpoint_there_is_nothing_to_check(cytoseg: CytosegCommand) -> None:
    result = cytoseg("doctor", "tiny.yaml")
    assert result.exit_code == 2
    assert "runs/tiny/ddpm: no checkpoint here. Train one with `cytoseg train-ddpm`" in result.stderr
    assert not CHECK.exists()


@pytest.mark.slow
def test_a_training_ends_with_pictures_and_labels_bring_a_verdict(small: CytosegCommand) -> None:
    trained = small("train-ddpm", "tiny.yaml", *SHORT)
    assert trained.exit_code == 0, trained.output
    assert "Trained on 4 crops" in trained.stdout
    assert "No verdict: there are no labels yet" in trained.stdout
    assert f"See {CHECK / 'check.png'}." in trained.stdout
    assert sorted(path.name for path in CHECK.iterdir()) == [
        "check.csv",
        "check.md",
        "check.png",
    ]
    with Image.open(CHECK / "check.png") as picture:
        assert picture.size == (4 * 312, 4 * 312 + 72)  # four crops
    label()
    import_labels(small)
    asked = small("doctor", "tiny.yaml")
    assert asked.exit_code == 0, asked.output
    text = (CHECK / "check.md").read_text()
    assert text in asked.stdout
    assert "of 6 train crops, 3 folds over slides" in text  # of four slides one is for testing
    with (CHECK / "check.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["features"] for row in rows] == ["trained"] * 3 + ["random"] * 6 + ["filters"] * 3
    mean = np.mean([float(row["mean_iou"]) for row in rows[:3]])
    assert f"The trained features reach mean IoU {mean:.3f}" in text
    # Filters see intensity: dark squares on glass are no riddle to them.
    assert min(float(row["mean_iou"]) for row in rows[9:]) > 0.95
    again = small("doctor", "tiny.yaml")
    assert (CHECK / "check.md").read_text() == text
    assert text in again.stdout
    record = json.loads(Path("runs/tiny/run.json").read_text())["commands"]
    assert [entry["command"] for entry in record] == ["train-ddpm", "label-import", "doctor", "doctor"]


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_labels_that_cannot_be_split_leave_only_the_pictures(small: CytosegCommand) -> None:
    label("a")
    import_labels(small)
    result = small("doctor", "tiny.yaml")
    assert result.exit_code == 0, result.output
    assert "No verdict: the test side of the split is empty: 0 of 1 slides are test slides." in result.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_one_slide_is_probed_over_its_crops(small: CytosegCommand) -> None:
    label("ab")
    import_labels(small)
    result = small("doctor", "tiny.yaml")
    assert "of 2 train crops, 2 folds over crops" in result.stdout, result.output


@pytest.mark.slow
@pytest.mark.parametrize("init", [(), ("training.init=base",)], ids=["own", "base"])
def test_only_features_of_the_run_itself_are_to_be_trained_longer(
    small: CytosegCommand, trained: Path, init: tuple[str, ...]
) -> None:
    label()
    import_labels(small)
    (path,) = (trained / "ddpm").glob("checkpoint-*")
    found = load_checkpoint(path)
    for values in found.tensors["ema"].values():
        values.zero_()  # features that are the same everywhere
    save_checkpoint(path, found.tensors, {k: v for k, v in found.state.items() if k not in ("format", "sha256")})
    if init:
        (trained / "ddpm").rename("base")
    result = small("doctor", "tiny.yaml", *init)
    assert result.exit_code == 0, result.output
    assert ("No go: base does not suit these crops." in result.stdout) == bool(init)
    assert ("No go: train longer." in result.stdout) != bool(init)


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_a_training_that_is_over_is_not_checked_again(small: CytosegCommand) -> None:
    over = small("train-ddpm", "tiny.yaml", *SHORT, "--resume")
    assert over.exit_code == 0, over.output
    assert "No verdict" not in over.stdout
    (CHECK / "check.md").unlink()
    assert "No verdict" in small("train-ddpm", "tiny.yaml", *SHORT, "--resume").stdout


def test_of_several_processes_only_the_first_checks(small: CytosegCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytoseg.commands.train_ddpm.process_rank", lambda: 1)
    assert small("train-ddpm", "tiny.yaml", *SHORT).exit_code == 0
    assert not CHECK.exists()


@pytest.mark.slow
def test_a_check_that_takes_too_long_is_given_up(small: CytosegCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_check, "PATIENCE_S", 0.0)
    result = small("train-ddpm", "tiny.yaml", *SHORT)
    assert result.exit_code == 0, result.output
    assert "Feature check stopped after" in result.stdout
    assert "Ask for it: cytoseg doctor RECIPE." in result.stdout
    assert not CHECK.exists()


def test_weights_too_large_for_features_are_said_after_a_training_and_refused_by_doctor(
    small: CytosegCommand, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(CHECK)
    (path,) = (trained / "ddpm").glob("checkpoint-*")
    found = load_checkpoint(path)
    found.tensors["ema"]["init_conv.weight"].fill_(1e38)
    save_checkpoint(path, found.tensors, {k: v for k, v in found.state.items() if k not in ("format", "sha256")})
    result = small("doctor", "tiny.yaml")
    assert result.exit_code == 2
    assert "image 1: the diffusion model produces NaN or infinite features" in result.stderr
    assert not CHECK.exists()
    check_after_training(
        load_recipe("tiny.yaml", []), Path("runs/tiny"), [np.zeros((32, 32, 3), np.uint8)], trained_s=1
    )
    assert "The features were not checked: image 1: the diffusion model produces" in capsys.readouterr().out


def test_the_pictures_are_always_the_same_and_as_large_as_a_tile(cytoseg: CytosegCommand) -> None:
    recipe = load_recipe("tiny.yaml", ["predict.tile_px=48", "predict.overlap_px=8"])
    first, again = (tissue_pictures(recipe, tissue_crops(recipe)) for _ in range(2))
    assert [picture.shape for picture in first] == [(48, 48, 3)] * 4
    np.testing.assert_array_equal(first, again)
    assert len({picture.tobytes() for picture in first}) > 1
