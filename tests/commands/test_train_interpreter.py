from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytoseg.checkpoints import load_checkpoint, save_checkpoint
from cytoseg.diffusion.unet import build_unet
from cytoseg.interpreter.bundle import load_bundle
from cytoseg.recipe import Recipe, load_recipe

Load = Callable[..., Recipe]


@pytest.fixture
def load(cytoseg: Callable[..., Any], tmp_path: Path) -> Load:
    return lambda *overrides: load_recipe(str(tmp_path / "tiny.yaml"), overrides)


SMALL = ("interpreter.members=2", "interpreter.steps=20", "predict.tile_px=32", "predict.overlap_px=8")


def _label(folder: Path) -> None:
    """Write two crops of the cells in ``slides`` with their masks."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for name in "ab":
        with Image.open(f"slides/dark_{name}.png") as slide:
            picture = np.asarray(slide)[:32, 32:64]
        Image.fromarray(picture).save(folder / "images" / f"dark_{name}.png")
        Image.fromarray((picture[..., 1] < 100).astype(np.uint8)).save(folder / "masks" / f"dark_{name}.png")


def test_missing_labels_are_reported_before_the_weights_are_loaded(cytoseg: Callable[..., Any]) -> None:
    refused = cytoseg("train-interpreter", "quickstart")
    assert refused.exit_code == 2
    assert "there are no imported labels. Run `cytoseg label-import` first." in refused.stderr
    assert "Features come from" not in refused.output


@pytest.mark.parametrize("extractors", [pytest.param("filters", marks=pytest.mark.slow), "filters,pretrained"])
def test_features_of_others_need_no_diffusion_model(extractors: str, cytoseg: Callable[..., Any]) -> None:
    _label(Path("crops"))
    given = ("tiny.yaml", *SMALL, f"features.extractors=[{extractors}]", "labels.test_slides=[dark_b]")
    assert cytoseg("label-import", "crops", "--recipe", "tiny.yaml").exit_code == 0
    refused = cytoseg("train-interpreter", *given[:-2], given[-1])
    assert refused.exit_code == 2
    assert "no checkpoint here. Train one with `cytoseg train-ddpm`" in refused.stderr
    assert "training.init=cytology-base" in refused.stderr

    trained = cytoseg("train-interpreter", *given)
    assert trained.exit_code == 0, trained.output
    bundle = Path("runs/tiny/interpreter/bundle")
    assert not (bundle / "backbone.safetensors").exists()
    assert "up to date" in cytoseg("train-interpreter", *given).stdout
    evaluated = cytoseg("evaluate", *given)
    assert evaluated.exit_code == 0, evaluated.output
    predicted = cytoseg("predict", "tiny.yaml", "slides/dark_b.png", *given[1:])
    assert predicted.exit_code == 0, predicted.output
    class_map = tifffile.imread("runs/tiny/predictions/dark_b/class_map.ome.tif")
    assert (class_map[8:24, 60:90] == 1).all()
    assert (class_map[48:, :32] == 0).all()


def test_an_older_bundle_carries_an_unused_network(load: Load, cytoseg: Callable[..., Any]) -> None:
    _label(Path("crops"))
    given = ("tiny.yaml", *SMALL, "features.extractors=[filters]", "labels.test_slides=[dark_b]")
    cytoseg("label-import", "crops", "--recipe", "tiny.yaml")
    assert cytoseg("train-interpreter", *given).exit_code == 0
    bundle = Path("runs/tiny/interpreter/bundle")
    now = load_checkpoint(bundle)
    older = {**now.tensors, "backbone": build_unet(load().architecture()).state_dict()}
    save_checkpoint(bundle, older, {key: value for key, value in now.state.items() if key not in ("format", "sha256")})
    assert list(load_bundle(bundle).unet.parameters()) == []
    assert cytoseg("evaluate", *given).exit_code == 0
