from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cytoseg.errors import LabelError, RecipeError
from cytoseg.recipe import Recipe
from cytoseg.workflows.requested_maps import requested_maps, scale_of


def _recipe(folder: Path, condition: str = "map") -> Recipe:
    return Recipe.model_validate(
        {
            "name": "a",
            "folder": folder,
            "crops": {"size_px": 16},
            "classes": [{"name": "glass", "colour": "#ffffff"}, {"name": "cell", "colour": "#000000"}],
            "diffusion": {"backbone": "adm", "condition": condition, "dim_mults": [1, 2]},
            "features": {"taps": "all"},
        }
    )


def _map(path: Path, value: int, size_px: int = 16) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((size_px, size_px), value, np.uint8)).save(path)


def test_sample_i_shows_map_i_and_then_the_first_again(tmp_path: Path) -> None:
    _map(tmp_path / "maps/b.png", 1)
    _map(tmp_path / "maps/a.png", 255)
    (tmp_path / "maps/notes.txt").write_text("not a map")
    asked = requested_maps(_recipe(tmp_path), tmp_path, tmp_path / "maps", None)
    assert asked is not None
    assert (len(asked), asked.scale, asked.bundle) == (2, 2.0, None)
    torch.testing.assert_close(asked.of([0, 1, 2])[:, 0, 0], torch.tensor([255, 1, 255]))
    assert requested_maps(_recipe(tmp_path), tmp_path, None, None) is None


def test_every_map_that_does_not_fit_is_named(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    with pytest.raises(LabelError, match=r"^--maps .*maps: there is no such folder\."):
        requested_maps(_recipe(tmp_path), tmp_path, maps, None)
    maps.mkdir()
    with pytest.raises(LabelError, match=r"maps: holds no class map\. Put images of class ids there"):
        requested_maps(_recipe(tmp_path), tmp_path, maps, None)
    _map(maps / "large.png", 1, size_px=20)
    with pytest.raises(LabelError, match=r"^large.png: the map has 20x20 px, a sample 16x16 px\. Give a map of a sam"):
        requested_maps(_recipe(tmp_path), tmp_path, maps, None)
    _map(maps / "strange.png", 2)
    Image.fromarray(np.full((16, 16, 3), (9, 0, 3), np.uint8)).save(maps / "colours.png")
    (maps / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(LabelError, match=r"4 problems, nothing was written") as found:
        requested_maps(_recipe(tmp_path), tmp_path, maps, None)
    assert "strange.png: holds id 2, but there are 2 classes (glass, cell)" in str(found.value)
    assert "colours.png" in str(found.value)
    assert "broken.png" in str(found.value)


def test_a_model_without_condition_needs_an_interpreter(tmp_path: Path) -> None:
    _map(tmp_path / "maps/a.png", 1)
    with pytest.raises(RecipeError, match=r"the model of this run is not conditioned on class maps, and there is no"):
        requested_maps(_recipe(tmp_path, "none"), tmp_path, tmp_path / "maps", None)


@pytest.mark.parametrize("scale", [-0.1, 101.0, float("nan"), float("inf")])
def test_a_scale_out_of_range_is_refused(scale: float) -> None:
    with pytest.raises(RecipeError, match=r"^--scale .*: give a number from 0 to 100\."):
        scale_of(scale, None)
    assert scale_of(0.0, None) == 0.0
