from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cytoseg.features.pixel_table import PixelTable
from cytoseg.interpreter.holdout import BestWeights, fold_by_slide
from cytoseg.interpreter.mlp import Ensemble, member_losses


def _table(crops: list[int], classes: list[int]) -> PixelTable:
    features = torch.arange(float(len(crops)))[:, None].half()
    return PixelTable(features, torch.tensor(classes), torch.tensor(crops), {0: 1, 1: 1})


def _two_of_each(crops: int) -> PixelTable:
    """Two pixels of each crop, one of each class."""
    return _table([i // 2 for i in range(2 * crops)], [i % 2 for i in range(2 * crops)])


@pytest.mark.parametrize("slides", [5, 6, 12])
def test_slides_are_dealt_out_to_five_folds_of_nearly_equal_size(slides: int) -> None:
    names = [f"slide{i // 2}" for i in range(2 * slides)]  # two crops of each
    folds = fold_by_slide(_two_of_each(2 * slides), names, seed=0)
    assert folds is not None
    assert folds.count == 5
    by_slide = folds.of_pixel.view(slides, 4)
    assert (by_slide == by_slide[:, :1]).all()  # a slide is never cut in two
    sizes = by_slide[:, 0].bincount(minlength=5)
    assert sizes.max() - sizes.min() <= 1


def test_a_member_learns_all_but_what_it_holds_out() -> None:
    folds = fold_by_slide(_two_of_each(10), [str(i) for i in range(10)], seed=0)
    assert folds is not None
    for member in range(7):
        held = folds.held_out_pixels(member).tolist()
        assert len(held) == 4  # two crops
        assert sorted(held + folds.training_pixels(member).tolist()) == list(range(20))
        assert held == folds.held_out_pixels(member % 5).tolist()
    assert sorted(pixel for m in range(5) for pixel in folds.held_out_pixels(m).tolist()) == list(range(20))


def test_the_seed_deals() -> None:
    table, names = _two_of_each(10), [str(i) for i in range(10)]
    first, again, other = (fold_by_slide(table, names, seed=seed) for seed in (1, 1, 2))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first.of_pixel, again.of_pixel)
    assert not torch.equal(first.of_pixel, other.of_pixel)


def test_four_slides_are_too_few() -> None:
    assert fold_by_slide(_two_of_each(8), ["a", "a", "b", "b", "c", "c", "d", "d"], seed=0) is None


def test_crops_of_no_slide_are_learned_by_all_members() -> None:
    folds = fold_by_slide(_two_of_each(7), [None, "a", "b", "c", "d", "e", None], seed=0)
    assert folds is not None
    assert (folds.of_pixel[:2] == -1).all()
    assert sorted(folds.of_pixel[2:12].unique().tolist()) == [0, 1, 2, 3, 4]
    assert all({0, 1, 12, 13} < set(folds.training_pixels(member).tolist()) for member in range(5))
    assert fold_by_slide(_two_of_each(7), [None, "a", "b", "c", "d", None, None], seed=0) is None


def test_slides_without_a_chosen_pixel_do_not_count() -> None:
    assert fold_by_slide(_two_of_each(4), ["a", "b", "c", "d", "e", "f"], seed=0) is None


def test_a_class_of_one_fold_only_must_be_learned_by_all() -> None:
    table = _two_of_each(5)
    rare = replace(table, classes=torch.where(torch.arange(10) == 3, 2, table.classes))
    names = ["a", "b", "c", "d", "e"]
    assert fold_by_slide(table, names, seed=0) is not None
    assert fold_by_slide(rare, names, seed=0) is None


@pytest.fixture
def watched() -> tuple[Ensemble, BestWeights, Tensor, Tensor]:
    """Two members in training, what watches them, and the pixels each holds out with their classes."""
    table = _two_of_each(5)
    folds = fold_by_slide(table, ["a", "b", "c", "d", "e"], seed=0)
    assert folds is not None
    ensemble = Ensemble(2, 1, 2, seed=0).train()
    held = torch.stack([folds.held_out_pixels(m) for m in range(2)])
    return ensemble, BestWeights(ensemble, table, folds, seed=0), table.features[held].float(), table.classes[held]


@torch.no_grad()
def test_each_member_gets_the_weights_of_its_own_best_step(
    watched: tuple[Ensemble, BestWeights, Tensor, Tensor],
) -> None:
    """The last layer is made to say class 1 with a score that rises for one member and falls for the other."""
    ensemble, best, features, classes = watched
    pull = {10: (3.0, 0.1), 20: (0.2, 2.0), 30: (1.0, 1.0)}  # symmetric classes: the smaller, the better
    ensemble.weight3.zero_()
    for step, pulls in pull.items():
        ensemble.bias3[:, 1] = torch.tensor(pulls)
        best.check(step)
        assert ensemble.training
    best.restore()
    assert best.steps == [20, 10]
    torch.testing.assert_close(ensemble.bias3[:, 1], torch.tensor([0.2, 0.1]))
    losses = member_losses(ensemble.eval()(features), classes)
    torch.testing.assert_close(losses, torch.log1p(torch.tensor([0.2, 0.1]).exp()) - torch.tensor([0.1, 0.05]))
