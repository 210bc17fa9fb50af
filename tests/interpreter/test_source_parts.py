from pathlib import Path

import numpy as np
import pytest
import torch

from cytoseg.classes import IGNORE
from cytoseg.diffusion.mask_loss import OTHER
from cytoseg.interpreter.random_stain import paint_random_stain
from cytoseg.interpreter.source_parts import LabelledSource, SourceParts, source_weights, translate
from cytoseg.labels.settings import SourceSection


def _source(*, scale: float = 1.0, spread: float = 1.0, repaint: bool = False, share: float = 1.0) -> LabelledSource:
    """A bright image of 64 px with a dark square of class 1; what is not the square is other."""
    picture = np.full((64, 64, 3), 230, np.uint8)
    labels = np.full((64, 64), OTHER, np.uint8)
    picture[16:48, 16:48], labels[16:48, 16:48] = 60, 1
    settings = SourceSection(Path("there"), spread=spread, stain="random" if repaint else "as_is", share=share)
    return LabelledSource([picture], [labels], (False, True), scale, settings)


def test_a_part_follows_from_the_seed_and_its_number_alone() -> None:
    parts = SourceParts([_source(repaint=True, spread=1.5)], size_px=32, seed=3)
    together, alone = parts(torch.tensor([5, 9])), parts(torch.tensor([9]))
    assert torch.equal(together.pictures[1], alone.pictures[0])
    assert torch.equal(together.targets[1], alone.targets[0])
    other = SourceParts([_source(repaint=True)], size_px=32, seed=4)(torch.tensor([9]))
    assert not torch.equal(other.pictures, alone.pictures)


def test_picture_and_labels_stay_together() -> None:
    drawn = SourceParts([_source(scale=0.5)], size_px=32, seed=0)(torch.arange(8))
    assert drawn.pictures.shape == (8, 3, 32, 32)
    assert drawn.known.tolist() == [[False, True]] * 8
    # Halved, the square of 32 px is one of 16 px, whole in every part.
    assert [(target == 1).sum().item() for target in drawn.targets] == [256] * 8
    for picture, target in zip(drawn.pictures.mean(1), drawn.targets, strict=True):
        assert picture[target == 1].max() < picture[target == OTHER].median()


def test_a_picture_too_small_is_filled_up_unlabelled() -> None:
    drawn = SourceParts([_source(scale=0.25)], size_px=32, seed=0)(torch.tensor([0]))
    (target,) = drawn.targets
    place = (target != IGNORE).nonzero()
    (top, left), (bottom, right) = place.amin(0).tolist(), place.amax(0).tolist()
    assert (bottom - top, right - left, len(place)) == (15, 15, 16 * 16)
    # A quarter of its 64 px: the square of class 1, once 32 px, is 8 px wide.
    assert [int((target == value).sum()) for value in (1, OTHER)] == [8 * 8, 16 * 16 - 8 * 8]


@pytest.mark.slow
def test_shares_decide_how_often_a_source_is_drawn() -> None:
    settings = SourceSection(Path("there"), spread=1, stain="as_is", share=3)
    three = LabelledSource(
        [np.zeros((32, 32, 3), np.uint8)], [np.zeros((32, 32), np.uint8)], (True, False), 1, settings
    )
    drawn = SourceParts([_source(), three], size_px=32, seed=0)(torch.arange(200))
    assert 130 <= int(drawn.known[:, 0].sum()) <= 170


def test_weights_are_one_over_the_root_of_the_share() -> None:
    weights = source_weights(_source())  # a quarter of class 1, three quarters other
    torch.testing.assert_close(weights, torch.tensor([0.0, 1.0, (1 / 3) ** 0.5]))


def test_translate() -> None:
    labels = np.array([[0, 1, 2, IGNORE]], np.uint8)
    assert translate(labels, [OTHER, 2, IGNORE]).tolist() == [[OTHER, 2, IGNORE, IGNORE]]


@pytest.mark.parametrize("seed", range(5))
def test_a_random_stain_keeps_what_is_darker_darker(seed: int) -> None:
    grey = torch.linspace(-0.9, 0.9, 64).expand(3, 4, 64)
    painted = paint_random_stain(grey, np.random.default_rng(seed))
    assert painted.shape == grey.shape
    assert painted.min() >= -1
    assert painted.max() <= 1
    assert (painted.mean(0)[0].diff() > -0.02).all()
    again = paint_random_stain(grey, np.random.default_rng(seed))
    assert torch.equal(painted, again)
