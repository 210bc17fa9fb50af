"""``edit``: bytes outside stay, and what cannot be edited is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from cytoseg.interpreter.bundle import EnsemblePredictor, load_bundle
from cytoseg.labels.index import load_index

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
    far = np.ones((64, 64), bool)
    far[16:34, 16:34] = False
    np.testing.assert_array_equal(edited[far], crop[far])
    assert (edited[22:28, 22:28] != crop[22:28, 22:28]).any()
    entry = json.loads(Path("runs/tiny/run.json").read_text())["commands"][-1]
    assert (entry["command"], entry["outcome"], entry["edited"]) == ("edit", "finished", str(path))
    # The same seed draws the same.
    assert _edit(cytoseg, "--before", "before.png", "--out", "again.png").exit_code == 0
    np.testing.assert_array_equal(np.array(Image.open("again.png")), edited)


def test_what_cannot_be_edited_is_refused(crop: np.ndarray, cytoseg: Command) -> None:
    assert "--scale 101: give a number from 0 to 100." in _edit(cytoseg, "--scale", "101").stderr
    Path("map.png").write_bytes(Path("before.png").read_bytes())
    same = _edit(cytoseg)
    assert same.exit_code == 2
    assert "map.png: the map equals the current map of crop.png. Change at least one pixel." in same.stderr
    Image.fromarray(crop[:32]).save("crop.png")
    assert "map.png: the map has 64x64 px, the image 64x32 px." in _edit(cytoseg).stderr
    assert not Path("runs/tiny/edited").exists()


def test_a_model_that_draws_nothing_valid_leaves_no_file(
    crop: np.ndarray, cytoseg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytoseg.workflows.redrawing.redraw", lambda *_, **__: torch.full((1, 3, 64, 64), torch.nan))
    result = _edit(cytoseg)
    assert result.exit_code == 2
    assert "drew no valid image. Train it longer, or lower --scale." in result.stderr
    assert not Path("runs/tiny/edited").exists()
