import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from cytoseg.diffusion.mask_loss import OTHER
from cytoseg.errors import LabelError
from cytoseg.recipe import load_recipe
from cytoseg.workflows.labelled_sources import source_parts

BACKBONE = "diffusion={backbone: pretrained, dim: 8, dim_mults: [1, 1, 1]}"
SOURCE = "labels.sources=[{{folder: runs/elsewhere/labels, stain: as_is, spread: 1, {more}}}]"


@pytest.fixture
def run(cytoseg: Callable[..., Result]) -> Callable[..., Result]:
    """A folder with tiny.yaml (background, cell) and imported labels of another run (glass, nucleus of 8 px)."""
    Path("elsewhere.yaml").write_text(
        'name: elsewhere\nclasses:\n  - {name: glass, colour: "#f0f0f0"}\n  - {name: nucleus, colour: "#0072b2"}\n'
        "fill: glass\n",
        encoding="utf-8",
    )
    labels = np.zeros((64, 64), np.uint8)
    labels[10:18, 20:28] = labels[40:48, 40:48] = 1
    picture = np.where(labels[..., None] > 0, 90, 220).astype(np.uint8).repeat(3, axis=2)
    for folder, pixels in (("images", picture), ("masks", labels)):
        Path("source", folder).mkdir(parents=True)
        Image.fromarray(pixels).save(Path("source", folder, "a.png"))
    assert cytoseg("label-import", "source", "--recipe", "elsewhere.yaml").exit_code == 0
    return cytoseg


def _parts(more: str, *overrides: str) -> torch.Tensor:
    recipe = load_recipe("tiny.yaml", [BACKBONE, SOURCE.format(more=more), *overrides])
    parts = source_parts(recipe)
    assert parts is not None
    return parts(torch.arange(4)).targets


@pytest.mark.usefixtures("run")
def test_classes_are_said_in_the_recipe_s_list() -> None:
    assert _parts("classes: {glass: other, nucleus: cell}").unique().tolist() == [1, OTHER]
    assert 255 in _parts("classes: {glass: ignore, nucleus: cell}").unique().tolist()


@pytest.mark.usefixtures("run")
def test_objects_are_scaled_to_the_size_asked_for() -> None:
    recipe = load_recipe(
        "tiny.yaml", [BACKBONE, SOURCE.format(more="classes: {glass: other, nucleus: cell}, object_px: 18.054")]
    )
    parts = source_parts(recipe)
    assert parts is not None
    assert parts._sources[0].scale == pytest.approx(2.0, rel=1e-3)  # a square of 8 px is as large as a disc of 9.027


@pytest.mark.usefixtures("run")
def test_without_any_mpp_pictures_keep_their_size_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    _parts("classes: {glass: other, nucleus: cell}")
    assert "labels.sources[0]: neither the source nor the slides state mpp" in capsys.readouterr().out


@pytest.mark.usefixtures("run")
def test_pictures_are_scaled_by_their_mpp() -> None:
    more = "classes: {glass: other, nucleus: cell}, mpp: 0.25"
    recipe = load_recipe("tiny.yaml", [BACKBONE, SOURCE.format(more=more), "slides.mpp=0.5"])
    parts = source_parts(recipe)
    assert parts is not None
    assert parts._sources[0].scale == 0.5
    with pytest.raises(LabelError, match=r"labels.sources\[0\]: only the source states mpp"):
        _parts(more)


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("more", "found"),
    [
        ("classes: {glass: other}", r"has the classes glass, nucleus; the recipe does not say what nucleus means here"),
        ("classes: {glass: other, nucleus: cell, mud: cell}", r"the recipe does not say what mud means here"),
        ("classes: {glass: other, nucleus: ignore}", r"shows none of the recipe's classes"),
    ],
)
def test_classes_that_the_recipe_does_not_explain_are_refused(more: str, found: str) -> None:
    with pytest.raises(LabelError, match=found):
        _parts(more)


def test_a_missing_source_is_named(run: Callable[..., Result]) -> None:
    result = run("train-ddpm", "tiny.yaml", BACKBONE, "labels.sources=[{folder: nowhere}]", "training.crops=8")
    assert result.exit_code == 2
    assert "nowhere/index.json: there are no imported labels" in result.stderr


def test_crops_of_the_run_itself_are_no_source(run: Callable[..., Result]) -> None:
    assert run("label-import", "source", "--recipe", "tiny.yaml", "--map", "cell=cell").exit_code == 0
    with pytest.raises(LabelError, match=r"a is also a labelled crop of this run, or part of one \(a\)"):
        _parts("classes: {glass: other, nucleus: cell}")


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (["diffusion={backbone: pretrained}"], "diffusion.dim_mults: .* has 4 levels, the pretrained backbone has 3"),
        ([SOURCE.format(more="")], "labels.sources: only diffusion.backbone: pretrained"),
        ([BACKBONE, "training.denoising_weight=0"], "training.denoising_weight: 0 leaves nothing to learn"),
    ],
)
def test_settings_that_do_not_go_together(run: Callable[..., Result], overrides: list[str], found: str) -> None:
    result = run("recipe", "check", "tiny.yaml", *overrides)
    assert result.exit_code == 2
    assert re.search(found, " ".join(result.stderr.split()))
