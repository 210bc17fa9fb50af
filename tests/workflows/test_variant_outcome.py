"""Measuring one variant; whole studies are tested in commands/test_study.py."""

import torch
from torch import Tensor, nn

from cytoseg.recipe import load_recipe
from cytoseg.workflows.variant_outcome import _samples


class CountsSamples(nn.Module):
    """Predicts a tenth of its input, and keeps the sizes of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: set[int] = set()

    def forward(self, xt: Tensor, _t: Tensor) -> Tensor:
        """Predict from (N, C, H, W)."""
        self.batches.add(len(xt))
        return 0.1 * xt


def test_samples_are_drawn_in_batches_of_the_training() -> None:
    found = []
    for batch, batches in ((2, {2, 1}), (5, {5})):
        changes = [f"training.micro_batch={batch}", "crops.size_px=16", "training.device=cpu"]
        unet = CountsSamples()
        found.append(_samples(unet, load_recipe("quickstart", changes), 5))
        assert unet.batches == batches
    assert found[0].shape == (5, 3, 16, 16)
    torch.testing.assert_close(found[0], found[1])
