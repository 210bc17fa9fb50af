from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cytoseg.classes import IGNORE
from cytoseg.errors import CheckpointError, RecipeError
from cytoseg.labels.index import LabelledCrop
from cytoseg.labels.split import Split
from cytoseg.recipe import Recipe
from cytoseg.slides.generated_mark import GeneratedMark, drawn_mark, edited_mark
from cytoseg.slides.settings import CropsSection
from cytoseg.workflows import map_source
from cytoseg.workflows.map_source import TrainingMaps, crop_maps

CROPS = CropsSection(size_px=8, flips=True, turns=True, jitter=0.0)


class _Dark:
    """Takes dark pixels for class 1, and is unsure of grey ones."""

    def tiles_at_once(self, _side_px: int) -> int:
        return 3

    def __call__(self, tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        assert len(tiles) <= 3
        dark = np.where(tiles.mean(3) < 100, 0.9, np.where(tiles.mean(3) < 150, 0.6, 0.1))
        return {"probabilities": np.stack([1 - dark, dark], axis=1).astype(np.float32)}


def _maps(**changes: Any) -> TrainingMaps:
    values: dict[str, Any] = {"predictor": _Dark(), "labelled": [], "classes": 2, "settings": CROPS, "seed": 1}
    return TrainingMaps(**{**values, "sha256": "", **changes})


def _ids(channels: torch.Tensor) -> torch.Tensor:
    assert torch.equal(channels.sum(1), torch.ones_like(channels[:, 0]))
    return channels.argmax(1)


def test_a_sure_prediction_is_the_map_and_a_tenth_is_dropped() -> None:
    x0 = torch.ones(400, 3, 8, 8)
    x0[:, :, :, :4], x0[:, :, :2, 4:] = -1.0, 0.0
    crops, channels = _maps()(torch.arange(400), x0)
    assert torch.equal(crops, x0)
    ids = _ids(channels)
    dropped = (ids == 2).flatten(1).all(1)
    assert 25 <= int(dropped.sum()) <= 55
    wanted = torch.zeros(8, 8, dtype=torch.long)
    wanted[:, :4], wanted[:2, 4:] = 1, 2
    assert torch.equal(ids[~dropped], wanted.expand(400 - int(dropped.sum()), -1, -1))


def test_some_crops_are_parts_of_labelled_ones_with_their_labels() -> None:
    rng = np.random.default_rng(0)
    label_map = rng.choice(np.array([0, 1, IGNORE], np.uint8), (12, 10))
    picture = np.repeat(label_map[..., None], 3, axis=2)
    x0 = torch.full((400, 3, 8, 8), 0.5)
    numbers = torch.arange(400)
    crops, channels = _maps(predictor=None, labelled=[(picture, label_map)])(numbers, x0)
    taken = (crops != 0.5).flatten(1).all(1)
    assert 70 <= int(taken.sum()) <= 130
    ids = _ids(channels)
    assert bool((ids[~taken] == 2).all())
    shown = ((crops[:, 0] + 1) * 127.5).round().long()
    kept = taken & ~(ids == 2).flatten(1).all(1)
    assert torch.equal(torch.where(shown == IGNORE, 2, shown)[kept], ids[kept])
    assert len({tuple(crop.flatten().tolist()) for crop in crops[taken]}) > 30
    again, _ = _maps(predictor=None, labelled=[(picture, label_map)])(numbers[200:203], x0[200:203])
    assert torch.equal(again, crops[200:203])


def _recipe(folder: Path, condition: str, init: Path | None = None) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "a",
            "folder": folder,
            "classes": [{"name": "glass", "colour": "#ffffff"}, {"name": "cell", "colour": "#000000"}],
            "diffusion": {"backbone": "adm", "condition": condition, "dim_mults": [1, 2]},
            "features": {"taps": "all"},
            "training": {"init": init},
        }
    )


def test_without_labels_and_interpreter_there_is_nothing_to_learn_from(tmp_path: Path) -> None:
    assert crop_maps(_recipe(tmp_path, "none"), tmp_path, device=torch.device("cpu")) is None
    with pytest.raises(RecipeError, match=r"^diffusion.condition=map: class maps come from labels or an interpreter"):
        crop_maps(_recipe(tmp_path, "map"), tmp_path, device=torch.device("cpu"))


def test_the_interpreter_of_the_run_to_start_from_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    (base / "interpreter" / "bundle").mkdir(parents=True)
    newest = base / "ddpm" / "checkpoint-000000004"
    newest.mkdir(parents=True)
    (newest / "state.json").write_text("{}")
    for init in (base / "ddpm", newest):
        with pytest.raises(CheckpointError, match=r"base/interpreter/bundle"):  # which is empty
            crop_maps(_recipe(tmp_path, "map", init), tmp_path, device=torch.device("cpu"))
    monkeypatch.chdir(base)
    with pytest.raises(RecipeError, match="this run has neither"):  # a name is no folder here
        crop_maps(_recipe(tmp_path, "map", Path("cytology-base")), tmp_path, device=torch.device("cpu"))


def test_only_real_crops_that_hold_a_training_crop_are_labelled_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crop(name: str, width: int, made: GeneratedMark | None = None) -> LabelledCrop:
        return LabelledCrop(tmp_path, name, "slide", width, 300, f"{name}.json", "1", "2", {}, 0, made=made)

    edited = edited_mark("real.png, seed 0", slide="slide", of="1")
    train = (crop("real", 256), crop("small", 255), crop("drawn", 256, drawn_mark("a")), crop("edited", 256, edited))
    monkeypatch.setattr(map_source, "has_index", lambda _folder: True)
    monkeypatch.setattr(map_source, "split_of", lambda _recipe: Split(train, ()))
    recipe = _recipe(tmp_path, "map")
    assert recipe.crops.size_px == 256
    assert [crop.crop for crop in map_source._labelled(recipe)] == ["real"]
    monkeypatch.setattr(map_source, "split_of", lambda _recipe: Split(train[1:], ()))
    with pytest.raises(RecipeError, match="this run has neither"):
        crop_maps(recipe, tmp_path, device=torch.device("cpu"))
