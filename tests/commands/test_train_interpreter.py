"""Held-out results reported and stored by ``cytoseg train-interpreter``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytoseg.checkpoints import load_checkpoint, save_checkpoint
from cytoseg.commands.train_interpreter import _findings, _origin, _sentences
from cytoseg.diffusion.unet import build_unet
from cytoseg.interpreter.bundle import load_bundle
from cytoseg.interpreter.calibrate import Calibration
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.train_mlps import Trained
from cytoseg.recipe import Recipe, load_recipe

CALIBRATION = Calibration(1.25, 900, ece_before=0.0414, ece_after=0.0121, nll_before=0.3, nll_after=0.2)
Load = Callable[..., Recipe]


@pytest.fixture
def load(cytoseg: Callable[..., Any], tmp_path: Path) -> Load:
    return lambda *overrides: load_recipe(str(tmp_path / "tiny.yaml"), overrides)


def _trained(**findings: Any) -> Trained:
    return Trained(Ensemble(2, 3, 2, seed=0), **findings)


def test_a_student_is_trained_again_after_a_change_to_its_teacher_or_to_the_unlabelled_slides() -> None:
    def origin(*changes: str) -> dict[str, Any]:
        return _origin(load_recipe("quickstart", ["interpreter.kind=student", *changes]), (), {})

    first, mlps = origin(), origin("student.teacher=mlps")
    assert origin("decoder.steps=7") != first  # the teacher is a decoder by default
    assert origin("student.teacher=mlps", "decoder.steps=7") == mlps != first
    assert origin("slides.background.rule=none") != first
    labelled = origin("student.crops=0")
    assert origin("student.crops=0", "slides.background.rule=none") == labelled != first
    assert origin("student.crops=0", "decoder.unlabelled=1", "slides.background.rule=none")["unlabelled"] is not None


def test_what_held_out_slides_say_is_said_and_kept(load: Load) -> None:
    trained = _trained(kept_steps=(400, 50, 900), calibration=CALIBRATION)
    assert _sentences(trained, load()) == [
        "Early stopping on held-out slides kept the weights of steps 50 to 900.",
        "Calibration error (ECE) on held-out slides: 0.041 before, 0.012 after temperature scaling (T = 1.25).",
    ]
    kept = _findings(trained)
    assert kept["kept_steps"] == [400, 50, 900]
    assert kept["calibration"]["temperature"] == 1.25
    assert kept["calibration"]["ece_after"] == 0.0121


def test_that_nothing_was_held_out_is_said_to_those_who_asked(load: Load) -> None:
    (said,) = _sentences(_trained(), load("interpreter.calibrate=true"))
    assert said.startswith(
        "No slide was held out, so there was no early stopping and no calibration: both need crops of 5 "
    )
    assert _sentences(_trained(), load("interpreter.calibrate=false", "interpreter.early_stopping=false")) == []
    assert _sentences(_trained(), load("interpreter.calibrate=true", "interpreter.mode=reference")) == []
    assert _findings(_trained()) == {"kept_steps": None, "calibration": None}


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


@pytest.mark.parametrize("extractors", ["filters", "filters,pretrained"])
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
