"""``edit``: bytes outside stay, and what cannot be edited is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from cytoseg.interpreter.bundle import EnsemblePredictor, load_bundle
from cytoseg.labels.index import load_index, pixel_hash
from cytoseg.slides.generated_mark import read_mark
from cytoseg.workflows.redrawing import mark_of_edit, save_edited

Command = Callable[..., Result]


@pytest.fixture
def crop(home: Path) -> np.ndarray:
    """A labelled crop as crop.png, and as map.png what the interpreter says of it with a square changed."""
    picture = load_index(home / "runs/tiny/labels").crops[0].picture()
    Image.fromarray(picture).save("crop.png")
    predict = EnsemblePredictor(load_bundle(home / "runs/tiny/interpreter/bundle"), device=torch.device("cpu"))
    ids = predict(picture[None])["probabilities"][0].argmax(0).astype(np.uint8)
    Image.fromarray(ids).save("before.png")
    ids[20:30, 20:30] = (ids[20:30, 20:30] + 1) % 3
    Image.fromarray(ids).save("map.png")
    return picture


def _edit(cytoseg: Command, *options: str) -> Result:
    return cytoseg("edit", "tiny.yaml", "crop.png", "--map", "map.png", "--steps", "2", *options)


def test_only_the_changed_region_is_drawn(crop: np.ndarray, cytoseg: Command) -> None:
    result = _edit(cytoseg)
    assert result.exit_code == 0, result.output
    assert "Redrew 6.9% of crop.png. There the interpreter agrees with the map on" in result.stdout
    path = Path("runs/tiny/edited/crop_0.png")
    with Image.open(path) as image:
        assert image.info["Comment"] == "Edited by a diffusion model, not a patient's: crop.png, seed 0."
        edited = np.array(image)
    known = load_index(Path("runs/tiny/labels")).crops[0]
    first = read_mark(path)
    assert first is not None
    assert (first.slide, first.of) == (known.slide, known.image_sha256)
    assert "bare glass" not in result.stdout
    far = np.ones((64, 64), bool)
    far[16:34, 16:34] = False
    np.testing.assert_array_equal(edited[far], crop[far])
    assert (edited[22:28, 22:28] != crop[22:28, 22:28]).any()
    entry = json.loads(Path("runs/tiny/run.json").read_text())["commands"][-1]
    assert (entry["command"], entry["outcome"], entry["edited"]) == ("edit", "finished", str(path))
    # The same seed draws the same.
    assert _edit(cytoseg, "--before", "before.png", "--out", "again.png").exit_code == 0
    np.testing.assert_array_equal(np.array(Image.open("again.png")), edited)


@pytest.mark.slow
def test_what_cannot_be_edited_is_refused(crop: np.ndarray, cytoseg: Command) -> None:
    assert "--scale 101: give a number from 0 to 100." in _edit(cytoseg, "--scale", "101").stderr
    Path("map.png").write_bytes(Path("before.png").read_bytes())
    same = _edit(cytoseg)
    assert same.exit_code == 2
    assert "map.png: the map equals the current map of crop.png. Change at least one pixel." in same.stderr
    Image.fromarray(crop[:32]).save("crop.png")
    assert "map.png: the map has 64x64 px, the image 64x32 px." in _edit(cytoseg).stderr
    assert not Path("runs/tiny/edited").exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("denoising_weight", 0, "and cannot denoise."), ("highest_t", 5, "and cannot denoise stronger noise.")],
)
def test_a_network_that_cannot_draw_is_refused(
    crop: np.ndarray, cytoseg: Command, key: str, value: int, said: str
) -> None:
    state = max(Path("runs/tiny/ddpm").glob("checkpoint-*/state.json"))
    content = json.loads(state.read_text())
    content["recipe"]["training"][key] = value
    state.write_text(json.dumps(content))
    result = _edit(cytoseg)
    assert result.exit_code == 2
    assert f"this network was trained with training.{key} {value} {said}" in " ".join(result.stderr.split())
    assert not Path("runs/tiny/edited").exists()


def test_a_model_that_draws_nothing_valid_leaves_no_file(
    crop: np.ndarray, cytoseg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytoseg.workflows.redrawing.redraw", lambda *_, **__: torch.full((1, 3, 64, 64), torch.nan))
    result = _edit(cytoseg)
    assert result.exit_code == 2
    assert "drew no valid image. Train it longer, or lower --scale." in result.stderr
    assert not Path("runs/tiny/edited").exists()


@pytest.mark.slow
def test_an_edit_of_bare_glass_is_drawn_and_said(home: Path, cytoseg: Command) -> None:
    glass = np.full((64, 64, 3), 245, np.uint8)
    Image.fromarray(glass).save("glass.png")
    for name, marked in (("was.png", 0), ("map.png", 2)):
        ids = np.zeros((64, 64), np.uint8)
        ids[20:30, 20:30] = marked
        Image.fromarray(ids).save(name)
    result = cytoseg("edit", "tiny.yaml", "glass.png", "--map", "map.png", "--before", "was.png", "--steps", "2")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "note: map.png changes bare glass only, and the model has learned from tissue: check the result." in said
    drawn = np.array(Image.open("runs/tiny/edited/glass_0.png"))
    far = np.ones((64, 64), bool)
    far[16:34, 16:34] = False
    assert (drawn[far] == 245).all()


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_edit(crop: np.ndarray, cytoseg: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Image.Image, path: Path, **_options: object) -> NoReturn:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    folder = Path("runs/tiny/edited")
    folder.mkdir()
    (folder / "crop_0.png").write_bytes(b"an earlier edit")
    monkeypatch.setattr(Image.Image, "save", full)
    result = _edit(cytoseg)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "No space left on device" in line
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"crop_0.png": b"an earlier edit"}


def test_an_edit_names_the_slide_and_the_first_original(tmp_path: Path) -> None:
    picture, labels = np.full((4, 4, 3), 9, np.uint8), tmp_path / "labels"
    path = tmp_path / "a.png"
    Image.fromarray(picture).save(path)
    first = mark_of_edit(path, picture, labels, seed=3)
    assert (first.note[:60], first.slide, first.of) == (
        "Edited by a diffusion model, not a patient's: a.png, seed 3.",
        "",
        pixel_hash(picture),
    )
    (tmp_path / "a.crop.json").write_text(json.dumps({"slide": "P1", "region": None}))
    first = mark_of_edit(path, picture, labels, seed=3)
    assert first.slide == "P1"
    save_edited(tmp_path / "b.png", picture + 1, first)
    again = mark_of_edit(tmp_path / "b.png", picture + 1, labels, seed=4)
    assert (again.slide, again.of) == ("P1", first.of)
    assert again.note.endswith("b.png, seed 4.")
