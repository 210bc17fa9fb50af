import math

import pytest
import torch
from torch import Tensor

from cytoseg.classes import IGNORE
from cytoseg.diffusion.mask_loss import OTHER, MaskParts, mask_losses


def _parts(targets: list[int], *, known: list[bool], weights: list[float]) -> MaskParts:
    """One part of one row."""
    return MaskParts(
        torch.zeros(1, 3, 1, len(targets)), torch.tensor([[targets]]), torch.tensor([known]), torch.tensor([weights])
    )


def _scores(*probabilities: list[float]) -> Tensor:
    """(1, K, 1, W) from the probabilities of each pixel."""
    return torch.tensor(probabilities).log().T[None, :, None, :]


def test_cross_entropy_of_weighted_pixels_over_all_pixels() -> None:
    scores = _scores([0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.4, 0.3, 0.3])
    parts = _parts([0, 1, 2, IGNORE], known=[True, True, True], weights=[1.0, 0.5, 2.0, 0.0])
    expected = -(math.log(0.5) + 0.5 * math.log(0.8) + 2 * math.log(0.6)) / 4
    assert mask_losses(scores, parts).item() == pytest.approx(expected)


def test_other_is_any_class_that_the_source_does_not_tell_apart() -> None:
    scores = _scores([0.5, 0.2, 0.3], [0.1, 0.1, 0.8])
    parts = _parts([OTHER, 2], known=[False, False, True], weights=[0.0, 0.0, 1.0, 0.5])
    expected = -(0.5 * math.log(0.5 + 0.2) + math.log(0.8)) / 2
    assert mask_losses(scores, parts).item() == pytest.approx(expected)


def test_gradients_are_finite_where_all_classes_are_known_or_all_is_ignored() -> None:
    for targets in ([0, 1], [IGNORE, IGNORE]):
        scores = torch.randn(1, 2, 1, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
        loss = mask_losses(scores, _parts(targets, known=[True, True], weights=[1.0, 1.0, 0.0]))
        loss.sum().backward()  # type: ignore[no-untyped-call]
        assert scores.grad is not None
        assert scores.grad.isfinite().all()
        assert bool(loss == 0) == (targets[0] == IGNORE)


def test_the_loss_of_a_part_does_not_depend_on_the_others() -> None:
    generator = torch.Generator().manual_seed(1)
    columns = (
        torch.zeros(5, 3, 4, 4),
        torch.randint(0, 3, (5, 4, 4), generator=generator),
        torch.ones(5, 3, dtype=torch.bool),
        torch.rand(5, 4, generator=generator),
    )
    scores = torch.randn(5, 3, 4, 4, generator=generator)
    halves = [MaskParts(*(column[rows] for column in columns)) for rows in (slice(2), slice(2, 5))]
    split = [mask_losses(s, p) for s, p in zip(scores.split([2, 3]), halves, strict=True)]
    torch.testing.assert_close(torch.cat(split), mask_losses(scores, MaskParts(*columns)))
