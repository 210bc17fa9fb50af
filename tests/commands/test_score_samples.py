import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from cytoseg.errors import CytosegError
from cytoseg.evaluation import generative_features
from cytoseg.evaluation.generative_features import feature_network
from cytoseg.recipe import load_recipe
from cytoseg.workflows import copy_search
from cytoseg.workflows.compared_samples import _read as read_sample
from cytoseg.workflows.recipe_slides import tissue_sources
from cytoseg.workflows.training_crops import crops_of, cut_crops
from tests.formats.test_read_mask import grey_png

CytosegCommand = Callable[..., Result]
FOLDER = Path("runs/tiny/samples")


def leave_samples(count: int = 8, *, size_px: int = 32) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
        Image.fromarray(noise).save(FOLDER / f"sample_{number:05d}.png")


def leave_training_crops(*numbers: int, turns: int = 0) -> None:
    """Leave the crops as the first samples, turned, on slides of which no two places are alike."""
    random = np.random.default_rng(5)
    for name in "ab":
        coarse = random.integers(40, 170, (40, 40, 3), dtype=np.uint8)
        pixels = np.asarray(Image.fromarray(coarse).resize((320, 320), Image.Resampling.BICUBIC)).copy()
        pixels[:, 240:] = 245
        Image.fromarray(pixels).save(f"slides/dark_{name}.png", dpi=(50_800, 50_800))
    recipe = load_recipe("tiny.yaml")
    with crops_of(recipe, tissue_sources(recipe).sources) as crop:
        for place, number in enumerate(numbers):
            pixels = (
                ((cut_crops(recipe, crop, first=number, count=1)[0].permute(1, 2, 0).numpy() + 1) * 127.5)
                .round()
                .astype(np.uint8)
            )
            Image.fromarray(np.rot90(pixels, turns)).save(FOLDER / f"sample_{place:05d}.png")


def refused(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert not (FOLDER / "scores.json").exists()
    return result.stderr


@pytest.mark.slow
def test_noise_is_far_from_real_crops_and_real_ones_are_not(cytoseg: CytosegCommand) -> None:
    leave_samples()
    result = cytoseg("score-samples", "tiny.yaml", "training.crops=40", "--draws", "2")
    assert result.exit_code == 0, result.output
    found = json.loads((FOLDER / "scores.json").read_text())
    assert (found["count"], found["draws"]) == (8, 2)
    assert found["network"] == {"name": "filters", "hash": feature_network("filters").hash}
    for metric in ("fid", "sfid", "kid"):
        assert found["samples"][metric][0] > 10 * abs(found["floor"][metric][0])
    assert found["samples"]["precision"][0] == 0
    assert found["floor"]["precision"][0] > 0
    assert found["samples"]["copies"][0] == 0
    table = (FOLDER / "scores.md").read_text()
    assert "Against as many crops of slides that the model was trained on, 2 draws" in table
    assert f"| recall | {found['samples']['recall'][0]:.3f} +- " in table
    with Image.open(FOLDER / "scores.png") as figure:
        assert figure.size == (1200, 300)
    assert "8 samples: FID " in result.stdout
    (entry,) = json.loads(Path("runs/tiny/run.json").read_text())["commands"]
    assert (entry["command"], entry["outcome"]) == ("score-samples", "finished")


@pytest.mark.parametrize(
    ("training", "turns", "copies"),
    [
        pytest.param("100", 0, 3, marks=pytest.mark.slow),
        ("100", 1, 3),
        pytest.param("90", 0, 2, marks=pytest.mark.slow),
    ],
)
def test_a_copy_of_any_training_crop_is_found(cytoseg: CytosegCommand, training: str, turns: int, copies: int) -> None:
    leave_samples()
    leave_training_crops(0, 40, 90, turns=turns)
    result = cytoseg("score-samples", "tiny.yaml", f"training.crops={training}", "--draws", "1")
    assert result.exit_code == 0, result.output
    found = json.loads((FOLDER / "scores.json").read_text())
    assert (found["searched"], found["seen"]) == (int(training), int(training))
    assert found["samples"]["copies"] == [copies, 0.0]
    assert f"{copies} copies of training crops ({training} searched)" in result.stdout
    said = f"Copies were searched among {training} of {training} training crops, flipped and turned ones included."
    assert said in (FOLDER / "scores.md").read_text()


@pytest.mark.slow
def test_the_search_ends_at_a_limit_and_counts_what_the_model_has_seen(
    cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_samples()
    leave_training_crops(0, 40, 90)
    Path("runs/tiny/ddpm/checkpoint-000000120").mkdir(parents=True)
    monkeypatch.setattr(copy_search, "MAX_SEARCHED", 64)
    result = cytoseg("score-samples", "tiny.yaml", "training.crops=1000", "--draws", "1")
    assert result.exit_code == 0, result.output
    found = json.loads((FOLDER / "scores.json").read_text())
    assert (found["searched"], found["seen"], found["samples"]["copies"]) == (64, 120, [2, 0.0])


def test_slides_that_the_model_has_not_seen_may_be_named(cytoseg: CytosegCommand) -> None:
    leave_samples()
    Path("others").mkdir()
    for path in Path("slides").iterdir():
        (Path("others") / f"other_{path.name}").write_bytes(path.read_bytes())
    result = cytoseg("score-samples", "tiny.yaml", "training.crops=40", "--held-out", "others", "--draws", "1")
    assert result.exit_code == 0, result.output
    assert json.loads((FOLDER / "scores.json").read_text())["real"] == "held-out slides"


def test_without_samples_there_is_nothing_to_score(cytoseg: CytosegCommand) -> None:
    assert "holds no samples. Draw some first (cytoseg sample)" in refused(cytoseg("score-samples", "tiny.yaml"))


def test_too_few_samples_are_refused(cytoseg: CytosegCommand) -> None:
    leave_samples(7)
    assert "7 samples are too few to be scored: at least 8" in refused(cytoseg("score-samples", "tiny.yaml"))


def test_a_damaged_sample_is_named(cytoseg: CytosegCommand) -> None:
    leave_samples()
    (FOLDER / "sample_00003.png").write_bytes(b"no image")
    assert "sample_00003.png: damaged" in refused(cytoseg("score-samples", "tiny.yaml"))


def test_samples_of_another_size_are_refused(cytoseg: CytosegCommand) -> None:
    leave_samples(size_px=24)
    stderr = refused(cytoseg("score-samples", "tiny.yaml"))
    assert "sample_00000.png: is 24x24 px, but crops.size_px is 32" in stderr


def test_one_slide_has_no_floor(cytoseg: CytosegCommand, tmp_path: Path) -> None:
    leave_samples()
    stderr = refused(cytoseg("score-samples", "tiny.yaml", "slides.exclude=[dark_b.png]"))
    assert "1 slide of real crops; the floor compares crops of different slides" in stderr


@pytest.mark.parametrize("draws", ["0", "101"])
def test_draws_are_bounded(cytoseg: CytosegCommand, draws: str) -> None:
    assert "--draws" in refused(cytoseg("score-samples", "tiny.yaml", "--draws", draws))


@pytest.mark.parametrize(("side_px", "says"), [(16, "is 16x16 px, but"), (60_000, r"png: damaged .*exceeds limit")])
def test_a_sample_of_another_size_is_not_decoded(tmp_path: Path, side_px: int, says: str) -> None:
    path = tmp_path / "sample_00000.png"
    path.write_bytes(grey_png(np.zeros((1, 1), np.uint8), 1, claims=(side_px, side_px)))
    with pytest.raises(CytosegError, match=says):
        read_sample(path, 32)


@pytest.mark.posix
def test_a_pipe_in_place_of_a_sample_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sample_00000.png")
    with pytest.raises(CytosegError, match="damaged"):
        read_sample(tmp_path / "sample_00000.png", 32)


@pytest.mark.parametrize(
    "options", [("--features", "inception"), ("--weights", "w.pth"), ("--features", "lite0", "--weights", "w.pth")]
)
def test_inception_and_its_file_belong_together(cytoseg: CytosegCommand, options: tuple[str, ...]) -> None:
    leave_samples()
    stderr = refused(cytoseg("score-samples", "tiny.yaml", *options))
    assert "--features inception and --weights FILE.pth belong together. Give both or neither." in stderr


@pytest.mark.parametrize(("content", "says"), [(None, "w.pth: there is no such file"), (b"no weights", "w.pth: ")])
def test_a_missing_or_wrong_weight_file_is_refused_in_one_line(
    cytoseg: CytosegCommand, content: bytes | None, says: str
) -> None:
    leave_samples()
    if content is not None:
        Path("w.pth").write_bytes(content)
    stderr = refused(cytoseg("score-samples", "tiny.yaml", "--features", "inception", "--weights", "w.pth"))
    assert says in stderr
    assert stderr.count("\n") == 1


class Halves:
    """In place of Inception: the means of the channels, and two classes in turn of which it is sure."""

    name, sha256 = "inception", "ab" * 32

    def __init__(self, _weights: Path) -> None:
        pass

    def __call__(self, pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        means = pictures.mean((2, 3))
        return means, means, torch.eye(2)[torch.arange(len(pictures)) % 2]


def test_the_inception_score_is_in_every_file_where_a_classifier_is_named(
    cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_samples()
    monkeypatch.setattr(generative_features, "Inception", Halves)
    named = ("--features", "inception", "--weights", "w.pth", "--draws", "1")
    result = cytoseg("score-samples", "tiny.yaml", "training.crops=8", *named)
    assert result.exit_code == 0, result.output
    found = json.loads((FOLDER / "scores.json").read_text())
    assert found["network"] == {"name": "inception", "hash": "ab" * 6}
    assert found["samples"]["inception"] == found["floor"]["inception"] == pytest.approx([2.0, 0.0])
    assert "| IS | 2.000 +- 0.000 | 2.000 +- 0.000 |" in (FOLDER / "scores.md").read_text()


def test_lite0_scores_without_a_classifier(cytoseg: CytosegCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_samples()
    monkeypatch.setattr(generative_features, "load_imagenet", lambda _encoder: None)
    result = cytoseg("score-samples", "tiny.yaml", "training.crops=8", "--features", "lite0", "--draws", "1")
    assert result.exit_code == 0, result.output
    found = json.loads((FOLDER / "scores.json").read_text())
    assert found["network"]["name"] == "lite0"
    assert sorted(found["samples"]) == ["copies", "fid", "kid", "precision", "recall", "sfid"]
    assert "| IS |" not in (FOLDER / "scores.md").read_text()
