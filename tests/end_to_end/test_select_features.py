"""``cytoseg select-features`` on the tiny run, with the real network."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from cytoseg.recipe import load_recipe
from cytoseg.studies.feature_selection.cross_validation import Measured
from cytoseg.studies.feature_selection.settings import Effort
from tests.end_to_end.conftest import cut_labels

Command = Callable[..., Result]
TWO_SLIDES = 'labels.test_slides=["*_00"]'
TAPS = [f"block{b}.{part}" for b in (0, 1) for part in ("block1", "block2", "attention", "upsample")]


@pytest.fixture(autouse=True)
def short(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure hardly at all, on the middle 32 px of each crop."""
    cut_labels(home)
    effort = Effort(members=2, steps=2, batch_px=16, train_px=40, held_out_px=60, seeds=1)
    monkeypatch.setattr("cytoseg.commands.select_features.EFFORT", effort)


@pytest.fixture
def always_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every set that is tried be clearly better than the one before it."""

    def gain(new: Measured, old: Measured) -> tuple[float, float]:
        return (0.1, 0.01) if new is not old else (0.0, 0.0)

    monkeypatch.setattr("cytoseg.studies.feature_selection.select.gain", gain)


@pytest.mark.slow
@pytest.mark.usefixtures("always_better")
def test_the_choice_is_measured_drawn_and_written_and_trains(home: Path, cytoseg: Command) -> None:
    recipe = home / "tiny.yaml"
    recipe.write_text("# Mine.\n" + recipe.read_text())
    before = recipe.read_text()
    dry = cytoseg("select-features", "tiny.yaml", TWO_SLIDES, "--no-write")
    assert dry.exit_code == 0, dry.output
    assert (
        "Nothing was written. It would be features.taps=all, features.timesteps=[0, 1, 5], features.scale=2"
        in dry.stdout
    )
    assert recipe.read_text() == before

    result = cytoseg("select-features", "tiny.yaml", TWO_SLIDES)
    assert result.exit_code == 0, result.output
    assert "Chosen: filters and ImageNet features. Mean IoU 0." in result.stdout
    assert "Written into tiny.yaml. Train with it: cytoseg train-interpreter tiny.yaml" in result.stdout
    features = load_recipe("tiny.yaml").features
    assert (features.taps, features.timesteps, features.scale, features.extractors) == (
        "all",
        (0, 1, 5),
        2,
        ("filters", "pretrained"),
    )
    changed = [line for line in recipe.read_text().splitlines() if line not in before.splitlines()]
    assert changed == ["features: {timesteps: [0, 1, 5], taps: all, scale: 2, extractors: [filters, pretrained]}"]

    folder = home / "runs" / "tiny" / "select_features"
    rows = list(csv.DictReader((folder / "select_features.csv").read_text(encoding="utf-8-sig").splitlines()))
    single = [(row["taps"], row["timesteps"]) for row in rows if row["stage"] == "single"]
    assert sorted(single) == sorted((tap, t) for tap in TAPS for t in "015")
    assert all(0 <= float(row["mean IoU"]) <= 1 for row in rows)
    assert {row["left out"] for row in rows} == {""}
    with Image.open(folder / "select_features.png") as picture:
        assert picture.width > 500
    trained = cytoseg("train-interpreter", "tiny.yaml", TWO_SLIDES)
    assert trained.exit_code == 0, trained.output


@pytest.mark.slow
def test_what_is_measured_is_kept_and_only_train_crops_are_read(
    home: Path, cytoseg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = home / "runs" / "tiny" / "labels"
    test_crops = [
        c["crop"] for c in json.loads((labels / "index.json").read_text())["crops"] if c["slide"].endswith("_00")
    ]
    assert test_crops
    for crop in test_crops:
        (labels / "crops" / f"{crop}.png").unlink()
        (labels / "maps" / f"{crop}.png").unlink()
    first = cytoseg("select-features", "tiny.yaml", TWO_SLIDES, "--timesteps", "1,5", "--no-write")
    assert first.exit_code == 0, first.output
    folder = home / "runs" / "tiny" / "select_features"
    table = (folder / "select_features.md").read_text()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("cytoseg.studies.feature_selection.cross_validation.train_ensemble", never)
    monkeypatch.setattr("cytoseg.studies.feature_selection.columns.gather", never)
    again = cytoseg("select-features", "tiny.yaml", TWO_SLIDES, "--timesteps", "1,5", "--no-write")
    assert again.exit_code == 0, again.output
    assert (folder / "select_features.md").read_text() == table
    with pytest.raises(AssertionError, match="measured again"):
        cytoseg("select-features", "tiny.yaml", TWO_SLIDES, "--timesteps", "1,5", "features.noise_seed=3")


@pytest.mark.slow
@pytest.mark.usefixtures("always_better")
def test_a_shipped_recipe_is_copied_with_the_choice(
    home: Path, cytoseg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = home / "shipped"
    shipped.mkdir()
    (home / "tiny.yaml").rename(shipped / "tiny.yaml")
    before = (shipped / "tiny.yaml").read_text()
    monkeypatch.setattr("cytoseg.recipe.file.shipped_recipes", lambda: shipped)
    result = cytoseg("select-features", "tiny", TWO_SLIDES, "--timesteps", "1,5")
    assert result.exit_code == 0, result.output
    target = Path("runs", "tiny", "select_features", "recipe.yaml")
    assert f"Written into {target}." in result.stdout
    assert (shipped / "tiny.yaml").read_text() == before
    assert load_recipe(str(target)).features.timesteps == (1, 5)
    assert load_recipe(str(target)).features.scale == 2


@pytest.mark.slow
@pytest.mark.usefixtures("always_better")
def test_noise_levels_in_decibels_become_timesteps(home: Path, cytoseg: Command) -> None:
    recipe = home / "tiny.yaml"
    recipe.write_text(recipe.read_text().replace("timesteps: [1, 5]", "snr_db: [5.0]"))
    result = cytoseg("select-features", "tiny.yaml", TWO_SLIDES, "--timesteps", "1")
    assert result.exit_code == 0, result.output
    features = load_recipe("tiny.yaml").features
    assert features.snr_db is None
    assert features.timesteps is not None
    assert len(features.timesteps) == 2


@pytest.mark.slow
def test_without_time_the_recipe_stays(home: Path, cytoseg: Command) -> None:
    before = (home / "tiny.yaml").read_text()
    result = cytoseg("select-features", "tiny.yaml", TWO_SLIDES, "--minutes", "0")
    assert result.exit_code == 0, result.output
    assert "The recipe's features stay: blocks 0, 1 at t = 1, 5" in result.stdout
    assert "tiny.yaml already has these features." in result.stdout
    assert (home / "tiny.yaml").read_text() == before
    table = (home / "runs" / "tiny" / "select_features" / "select_features.md").read_text()
    assert "block 0 at t = 0 (more time)" in table


@pytest.mark.slow
def test_a_set_of_the_command_line_that_stays_is_not_written(home: Path, cytoseg: Command) -> None:
    before = (home / "tiny.yaml").read_text()
    result = cytoseg("select-features", "tiny.yaml", TWO_SLIDES, "features.timesteps=[5]", "--minutes", "0")
    assert result.exit_code == 0, result.output
    assert "The recipe's features stay: blocks 0, 1 at t = 5" in result.stdout
    assert (
        "Nothing was written: the features set on the command line are kept, and tiny.yaml is unchanged."
        in result.stdout
    )
    assert (home / "tiny.yaml").read_text() == before


def test_crops_of_one_slide_are_refused_in_one_line(home: Path, cytoseg: Command) -> None:
    result = cytoseg("select-features", "tiny.yaml")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "train crops are from slide" in line
    assert "Annotate crops of other slides" in line
