import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cytoseg.errors import CheckpointError
from cytoseg.features.pixel_table import PixelDraw, PixelTable, choose_pixels
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.workflows.labelled_pixels import (
    check_rows,
    ensemble_settings,
    pixel_draw,
    pixels_used,
    used_sentence,
)

Load = Callable[..., Recipe]


@pytest.fixture
def load(cytoseg: Callable[..., Any], tmp_path: Path) -> Load:
    return lambda *overrides: load_recipe(str(tmp_path / "tiny.yaml"), overrides)


def test_pixels_and_memory_are_reported_by_class() -> None:
    classes = torch.tensor([0] * 3 + [2] * 5)
    table = PixelTable(torch.zeros(8, 500_000).half(), classes, classes, {0: 1_234_567, 2: 5})
    used = pixels_used(table, ("background", "cytoplasm", "nucleus"), peak_mb=2345.0)
    assert used == {
        "pixels_used": {"background": 3, "cytoplasm": 0, "nucleus": 5},
        "pixels_labelled": {"background": 1_234_567, "cytoplasm": 0, "nucleus": 5},
        "table": "memory",
        "table_gb": 0.008,
        "peak_memory_gb": 2.345,
    }
    assert used_sentence(used) == (
        "Pixels used of those labelled: background 3 of 1,234,567, cytoplasm 0 of 0, nucleus 5 of 5. "
        "Features in memory, 8 MB; peak memory 2.3 GB."
    )
    unknown = used | {"peak_memory_gb": None, "table": "disk", "table_gb": 1.25}
    assert used_sentence(unknown).endswith("Features on disk, 1.2 GB.")


def test_every_key_of_training_reaches_it(load: Load) -> None:
    wanted = {
        "mode": "reference",
        "members": 3,
        "steps": 7,
        "passes": 2.5,
        "batch_px": 9,
        "rate": 0.002,
        "dropout": 0.1,
        "weight_decay": 0.5,
        "etf_weight": 0.4,
        "early_stopping": True,
        "calibrate": False,
    }
    recipe = load(*(f"interpreter.{key}={value}" for key, value in wanted.items()))
    assert asdict(ensemble_settings(recipe, 5)) == asdict(recipe.interpreter) | wanted | {"seed": 5}


def test_the_published_rules_take_every_labelled_pixel(load: Load) -> None:
    own = ("interpreter.pixels_per_crop=700", "interpreter.balance=classes")
    assert pixel_draw(load(*own), 3) == PixelDraw(700, "classes", 3)
    drawn = pixel_draw(load(*own, "interpreter.mode=reference"), 3)
    assert drawn == PixelDraw(sys.maxsize, "none", 3)
    assert choose_pixels(np.zeros((9, 5), np.uint8), drawn.per_crop, balance=drawn.balance, seed=0)[1].size == 45


def test_the_crop_whose_features_are_not_finite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytoseg.features.pixel_rows.BLOCK_VALUES", 6)  # two rows a block: none ends where a crop does
    crops = torch.tensor([0, 0, 0, 1, 1])
    features = torch.ones(5, 3).half()
    check_rows(PixelTable(features, crops, crops, {}), ["a_0", "b_0"])
    features[3, 1] = torch.inf
    with pytest.raises(CheckpointError, match=r"^b_0: the diffusion model produces NaN or infinite features"):
        check_rows(PixelTable(features, crops, crops, {}), ["a_0", "b_0"])
