"""The methods that ``study robustness`` compares; the study itself is tested in studies/test_robustness.py."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import Result

from cytoseg.errors import RecipeError
from cytoseg.interpreter.labelled_training import LabelledPictures
from cytoseg.labels.split import Split
from cytoseg.recipe import load_recipe
from cytoseg.workflows import compared_methods, robustness
from cytoseg.workflows.compared_methods import TrainingData
from cytoseg.workflows.robustness import scale_of

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


def _split() -> Split:
    """A train crop of slide dark_a with a cell of 4x4 pixels, and a test crop of dark_b."""
    ids = np.zeros((16, 16), np.uint8)
    ids[4:8, 4:8] = 1
    crops = (SimpleNamespace(slide=f"dark_{name}", label_map=lambda: ids) for name in "ab")
    return Split(*cast(Any, tuple((crop,) for crop in crops)))


def _scan(name: str, mpp: float | None) -> None:
    """Replace a slide by one that states this pixel size, or none."""
    dpi = {} if mpp is None else {"dpi": (25_400 / mpp, 25_400 / mpp)}
    Image.new("RGB", (96, 64), (120, 60, 150)).save(f"slides/dark_{name}.png", **dpi)


@pytest.mark.usefixtures("cytoseg")
@pytest.mark.parametrize(
    ("overrides", "stated", "mpp"),
    [
        (["slides.mpp=2.0", "slides.assume_mpp=0.25"], 0.5, 2.0),
        (["slides.assume_mpp=0.25"], 0.5, 0.5),  # what slides state counts
        (["slides.assume_mpp=0.25"], None, 0.25),
        (["slides.assume_mpp={slides: 0.25}"], None, 0.25),
        (["slides.assume_mpp=0.25", "slides.folders=[elsewhere]"], 0.5, 0.25),
        ([], 0.5, 0.5),
    ],
)
def test_crops_have_the_pixel_size_at_which_they_were_cut(
    overrides: list[str], stated: float | None, mpp: float
) -> None:
    for name in "ab":
        _scan(name, stated)
    scale, name = scale_of(load_recipe("tiny.yaml", overrides), _split())
    assert (scale.mpp, name) == (pytest.approx(mpp, rel=1e-3), "cell")
    assert scale.object_um == pytest.approx(mpp * 2 * (16 / np.pi) ** 0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("overrides", "stated", "said"),
    [
        ([], (None, None), "recipe tiny states no pixel size, .* or slides.assume_mpp to one value"),
        (["slides.assume_mpp={other: 0.5}"], (None, None), "or slides.assume_mpp to one value"),
        ([], (0.25, 0.5), r"have 0\.25 to 0\.5 µm per pixel, .* Set slides\.mpp and import the crops again\."),
    ],
)
def test_crops_of_no_single_pixel_size_are_refused(
    cytoseg: Callable[..., Result], overrides: list[str], stated: tuple[float | None, ...], said: str
) -> None:
    for name, mpp in zip("ab", stated, strict=True):
        _scan(name, mpp)
    with pytest.raises(RecipeError, match=f"^study robustness: .*{said}"):
        scale_of(load_recipe("tiny.yaml", overrides), _split())
