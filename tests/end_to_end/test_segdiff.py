"""``interpreter.kind segdiff`` in all relevant commands."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import Result

from cytoseg.errors import CheckpointError
from cytoseg.interpreter.bundle import EnsemblePredictor, load_bundle
from cytoseg.interpreter.segdiff import SegDiff
from cytoseg.recipe import load_recipe
from cytoseg.workflows.compared_methods import TrainingData, segdiff
from cytoseg.workflows.crop_split import split_of
from tests.end_to_end.conftest import cut_labels, run_command

SMALL = ("interpreter.kind=segdiff", "segdiff.steps=2", "segdiff.size_px=32", "segdiff.votes=2", "segdiff.draw_steps=2")
BUNDLE = Path("runs/tiny/interpreter/bundle")


@pytest.mark.slow
def test_segdiff_is_trained_evaluated_and_segments_slides(
    home: Path, part: str, cytoseg: Callable[..., Result]
) -> None:
    cut_labels(home)
    trained = cytoseg("train-interpreter", "tiny.yaml", *SMALL)
    assert trained.exit_code == 0, trained.output
    assert "SegDiff trained; 2 draws of 2 steps vote on each tile." in trained.stdout
    model = load_bundle(BUNDLE).interpreter
    assert isinstance(model, SegDiff)
    assert (model.votes, model.draw_steps) == (2, 2)
    assert "The bundle is up to date" in cytoseg("train-interpreter", "tiny.yaml", *SMALL).stdout
    assert cytoseg("evaluate", "tiny.yaml", *SMALL, "--no-baseline").exit_code == 0
    evaluation = json.loads(Path("runs/tiny/evaluation/evaluation.json").read_text())
    assert evaluation["methods"][0]["title"] == "SegDiff, 2 draws"
    predicted = cytoseg("predict", "tiny.yaml", part, "--out", "found", *SMALL)
    assert predicted.exit_code == 0, predicted.output
    class_map = tifffile.imread("found/part/class_map.ome.tif")
    assert set(np.unique(class_map)) <= {0, 1, 2}


@pytest.fixture(scope="module")
def without_ddpm(made_run: tuple[Path, object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """SegDiff trained once where there is no diffusion model: how the command ended, and the bundle."""
    home = tmp_path_factory.mktemp("segdiff") / "home"
    shutil.copytree(made_run[0], home, ignore=shutil.ignore_patterns("ddpm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return run_command("train-interpreter", "tiny.yaml", *SMALL), home / BUNDLE


def test_no_diffusion_model_is_needed(without_ddpm: tuple[Result, Path]) -> None:
    result, bundle = without_ddpm
    assert result.exit_code == 0, result.output
    assert isinstance(load_bundle(bundle).interpreter, SegDiff)


@pytest.mark.parametrize("draws", [{"votes": 0, "draw_steps": 2}, {"votes": 2, "draw_steps": 101}, None])
def test_a_bundle_that_does_not_say_its_draws_is_refused(
    draws: dict[str, int] | None, without_ddpm: tuple[Result, Path], tmp_path: Path
) -> None:
    bundle = shutil.copytree(without_ddpm[1], tmp_path / "bundle")
    state = json.loads((bundle / "state.json").read_text())
    (bundle / "state.json").write_text(json.dumps({**state, "segdiff": draws}))
    with pytest.raises(CheckpointError, match="Run `cytoseg train-interpreter` again"):
        load_bundle(bundle)


@pytest.mark.slow
def test_compare_trains_the_same_model(home: Path, cytoseg: Callable[..., Result]) -> None:
    assert cytoseg("train-interpreter", "tiny.yaml", *SMALL).exit_code == 0
    recipe = load_recipe(Path("tiny.yaml"), SMALL)
    learning = TrainingData.of(recipe, split_of(recipe))
    (method,) = segdiff(learning)
    assert method.title == "SegDiff, 2 draws"
    picture = learning.labelled.pictures[0]
    maps = EnsemblePredictor(load_bundle(BUNDLE), device=torch.device("cpu"))(picture[None])
    np.testing.assert_array_equal(method.fit(0)(picture), maps["probabilities"][0].argmax(0))
