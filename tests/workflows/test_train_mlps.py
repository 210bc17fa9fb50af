"""Held-out results reported and stored of a training of MLPs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cytoseg.interpreter.calibrate import TemperatureFit
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.train_mlps import Trained
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.workflows.train_mlps import _findings, _sentences

CALIBRATION = TemperatureFit(1.25, 900, ece_before=0.0414, ece_after=0.0121, nll_before=0.3, nll_after=0.2)
Load = Callable[..., Recipe]


@pytest.fixture
def load(cytoseg: Callable[..., Any], tmp_path: Path) -> Load:
    return lambda *overrides: load_recipe(str(tmp_path / "tiny.yaml"), overrides)


def _trained(**findings: Any) -> Trained:
    return Trained(Ensemble(2, 3, 2, seed=0), **findings)


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
