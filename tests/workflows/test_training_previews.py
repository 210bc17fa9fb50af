import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.loss_log import LossReading
from cytoseg.diffusion.train_steps import StepReport
from cytoseg.errors import RecipeError
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.seeds import generator_for
from cytoseg.workflows.training_previews import existing_previews, save_denoised, save_samples, tensorboard_log

ARCHITECTURE = Architecture()
REPORT = StepReport(4, 8, 1e-3, LossReading(torch.tensor([0, 1]), torch.tensor([5, 905]), torch.tensor([0.25, 0.75])))


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    """Load the quickstart recipe with 16 px crops and overrides."""
    return lambda *overrides: load_recipe("quickstart", ["crops.size_px=16", "training.device=cpu", *overrides])


class KnowsTheNoise(nn.Module):
    """Predicts the noise exactly, or half of it."""

    def __init__(self, eps: Tensor, share: float) -> None:
        super().__init__()
        self._eps, self._share = eps, share

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        assert (t == t[0]).all()
        return self._share * self._eps


def test_a_network_that_knows_the_noise_shows_the_crop(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    crops = torch.linspace(-0.9, 0.9, 2).view(2, 1, 1, 1).expand(2, 3, 16, 16)  # one dark, one light
    eps = torch.randn(crops.shape, generator=generator_for(0, 0, what="denoised"))
    for share in (1.0, 0.5):
        save_denoised(tmp_path / "grid.png", KnowsTheNoise(eps, share), crops, recipe("features.timesteps=[50,150]"))
        with Image.open(tmp_path / "grid.png") as picture:
            grid = np.asarray(picture).astype(float)
        assert grid.shape == (2 * 18 - 2, 5 * 18 - 2, 3)  # noisy and predicted at two timesteps, then the crop
        cells = [[grid[y : y + 16, x : x + 16] for x in range(0, 88, 18)] for y in (0, 18)]
        for row, grey in zip(cells, (13, 242), strict=True):
            assert np.abs(row[4] - grey).max() <= 1
            assert (np.abs(row[3] - grey).max() <= 1) == (share == 1.0)
            assert row[0].std() > 10
            assert row[2].std() > row[0].std()


def test_samples_that_take_too_long_are_given_up(
    tmp_path: Path, recipe: Callable[..., Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    unet = KnowsTheNoise(torch.zeros(2, 3, 16, 16), 1.0)
    wanted = recipe("training.samples=2")
    save_samples(tmp_path / "samples.png", unet, wanted, count=2, patience_s=0.0)
    assert "Drawing samples was stopped after 0 s" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    save_samples(tmp_path / "samples.png", unet, wanted, count=2, patience_s=60.0)
    with Image.open(tmp_path / "samples.png") as grid:
        assert grid.size == (34, 16)


class CountsSamples(nn.Module):
    """Predicts a tenth of its input, and keeps the sizes of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: set[int] = set()

    def forward(self, xt: Tensor, _t: Tensor) -> Tensor:
        self.batches.add(len(xt))
        return 0.1 * xt


def test_as_many_samples_are_drawn_at_once_as_the_training_takes(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    found = {}
    for micro_batch, batches in ((2, {6, 3}), (16, {9})):  # at least the six crops of denoised.png
        unet, path = CountsSamples(), tmp_path / f"{micro_batch}.png"
        wanted = recipe(f"training.micro_batch={micro_batch}")
        save_samples(path, unet, wanted, count=9, patience_s=None)
        assert unet.batches == batches
        with Image.open(path) as grid:
            found[micro_batch] = np.asarray(grid)
    assert found[2].shape == (3 * 18 - 2, 3 * 18 - 2, 3)
    np.testing.assert_array_equal(found[2], found[16])


def test_samples_are_named_only_when_they_are_worth_a_look(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 34, 3), dtype=np.uint8)
    for name in ("denoised.png", "samples.png"):
        Image.fromarray(noise).save(tmp_path / name)
    wanted = recipe("training.samples=2")
    assert [path.name for path in existing_previews(tmp_path, wanted)] == ["denoised.png"]
    Image.fromarray(np.sort(noise, axis=1)).save(tmp_path / "samples.png")
    assert [path.name for path in existing_previews(tmp_path, wanted)] == ["denoised.png", "samples.png"]
    assert [path.name for path in existing_previews(tmp_path, recipe("training.samples=0"))] == ["denoised.png"]


def test_nothing_is_tracked_unasked(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    with tensorboard_log(tmp_path, recipe(), ARCHITECTURE) as log:
        log(REPORT)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_gets_loss_rate_and_ranges(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with tensorboard_log(tmp_path, recipe("training.track=tensorboard"), ARCHITECTURE) as log:
        log(StepReport(4, 4, 1e-3, None))
        log(REPORT)
    read = events.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    found = {tag: [(e.step, round(e.value, 4)) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    assert found == {
        "loss": [(8, 0.5)],
        "rate": [(8, 0.001)],
        "loss by t/0-99": [(8, 0.25)],
        "loss by t/900-999": [(8, 0.75)],
    }


def test_a_missing_tensorboard_is_said(
    tmp_path: Path, recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return load(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    wanted = recipe("training.track=tensorboard")
    with pytest.raises(RecipeError, match=r"TensorBoard is not installed\. pip install 'cytoseg\[track\]'"):
        tensorboard_log(tmp_path, wanted, ARCHITECTURE).__enter__()
