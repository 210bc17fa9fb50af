"""The methods that ``study robustness`` compares; the study itself is tested in studies/test_robustness.py."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cytoseg.interpreter.labelled_training import LabelledPictures
from cytoseg.labels.split import Split
from cytoseg.recipe import load_recipe
from cytoseg.workflows import compared_methods, robustness
from cytoseg.workflows.compared_methods import TrainingData

BASELINES = ["commonest", "thresholds", "forest", "scratch"]
MLPS = ["filters", "random", "ddpm", "joined"]
IMAGENET_MLPS = ["imagenet", "imagenet-joined"]


def _keys(monkeypatch: pytest.MonkeyPatch, *overrides: str, quick: bool = False, imagenet: bool = True) -> list[str]:
    recipe = load_recipe("quickstart", overrides)
    learning = TrainingData(recipe, (), LabelledPictures([], [], []), torch.device("cpu"))
    bundle = SimpleNamespace(classes=recipe.class_list(), origin={}, mpp=recipe.slides.mpp)
    monkeypatch.setattr(robustness, "load_bundle", lambda _path: bundle)
    monkeypatch.setattr(robustness, "refuse_trained_on", lambda *_, **__: None)
    monkeypatch.setattr(robustness, "ensemble_method", lambda *_, **__: SimpleNamespace(title="own", predict=None))
    monkeypatch.setattr(TrainingData, "of", lambda *_: learning)
    monkeypatch.setattr(robustness, "run_backbone", lambda *_: (nn.Identity(), None, {}))
    monkeypatch.setattr(compared_methods, "imagenet_installed", lambda: imagenet)
    methods, _ = robustness.contenders(recipe, Split((), ()), Path(), quick=quick)
    return [method.key for method in methods]


@pytest.mark.parametrize(
    ("kind", "own", "added"),
    [
        ("mlps", "joined", []),
        ("student", "", []),
        ("decoder", "", ["decoder-random"]),
        ("segdiff", "", []),
    ],
)
def test_the_run_is_compared_with_every_method_of_compare_but_its_own(
    monkeypatch: pytest.MonkeyPatch, kind: str, own: str, added: list[str]
) -> None:
    expected = [*BASELINES, "imagenet-unet", *MLPS, *IMAGENET_MLPS, *added]
    found = _keys(monkeypatch, f"interpreter.kind={kind}", "features.extractors=[ddpm,filters]")
    assert found == ["ensemble", *(key for key in expected if key != own)]


def test_features_of_no_usual_set_are_those_of_the_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _keys(monkeypatch, "interpreter.kind=mlps", "features.extractors=[ddpm,pretrained]")
    assert found == ["ensemble", *BASELINES, "imagenet-unet", *MLPS, *IMAGENET_MLPS]


def test_without_imagenet_weights_their_methods_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _keys(monkeypatch, "interpreter.kind=student", imagenet=False)
    assert found == ["ensemble", *BASELINES, *MLPS]


def test_quick_keeps_the_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _keys(monkeypatch, quick=True) == ["ensemble", *BASELINES]
