import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cytoseg.errors import LabelError
from cytoseg.interpreter.part_draw import PartDraw, class_weights, part_px

GREYS = np.array([10, 90, 200], np.uint8)


def _crop(height: int, width: int, *, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A crop whose colours tell its labels: grey of the class in every channel."""
    ids = np.random.default_rng(seed).integers(0, 3, (height, width), dtype=np.uint8)
    return np.repeat(GREYS[ids][..., None], 3, axis=2), ids


def _draw(*crops: tuple[NDArray[np.uint8], NDArray[np.uint8]], size_px: int, seed: int = 0) -> PartDraw:
    return PartDraw([c[0] for c in crops], [c[1] for c in crops], size_px=size_px, batch=4, blurred=0.25, seed=seed)


def test_a_step_draws_the_same_whatever_was_drawn_before() -> None:
    first, again = _draw(_crop(40, 50), size_px=16), _draw(_crop(40, 50), size_px=16)
    for step in range(3):
        first(step)
    for mine, other in zip(first(3), again(3), strict=True):
        assert torch.equal(mine, other)
    assert not torch.equal(first(3)[0], first(4)[0])
    assert not torch.equal(first(3)[0], _draw(_crop(40, 50), size_px=16, seed=1)(3)[0])


def test_labels_turn_with_their_pictures() -> None:
    large = np.kron(np.array([[0, 1], [2, 1]], np.uint8), np.ones((24, 24), np.uint8))
    picture = np.repeat(GREYS[large][..., None], 3, axis=2)
    x, labels = PartDraw([picture], [large], size_px=32, batch=16, blurred=0.25, seed=3)(0)
    assert x.shape == (16, 3, 32, 32)
    assert labels.shape == (16, 32, 32)
    assert type(x) is type(labels) is torch.Tensor  # a MetaTensor would slow down the whole network
    for part, ids in zip(x[:, 0], labels, strict=True):
        # Contrast and blur change values, never which class is darker on average.
        means = [float(part[ids == i].mean()) for i in range(3) if (ids == i).sum() > 50]
        assert means == sorted(means)


def test_as_many_parts_are_blurred_as_asked_for() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    roughness = []
    for blurred in (0.0, 1.0):
        draw = PartDraw([picture], [np.zeros((32, 32), np.uint8)], size_px=32, batch=16, blurred=blurred, seed=0)
        x, _ = draw(0)
        roughness.append(float((x[..., 1:] - x[..., :-1]).square().mean() / x.var()))
    assert roughness[1] < 0.7 * roughness[0]


def test_small_crops_are_filled_up_with_ignored_pixels() -> None:
    crop = _crop(5, 9)
    x, labels = _draw(crop, size_px=16)(0)
    assert x.shape == (4, 3, 16, 16)
    numbers = np.bincount(crop[1].ravel()).tolist()
    assert [np.bincount(part[part != 255]).tolist() for part in labels.numpy()] == [numbers] * 4


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([], 96),
        ([(96, 300)], 96),
        ([(95, 300)], 88),
        ([(256, 256), (64, 64)], 64),
        ([(40, 200)], 40),
        ([(31, 9)], 32),
        ([(256, 256)] * 9 + [(40, 40)], 96),  # one in ten is padded
        ([(256, 256)] * 8 + [(40, 40)] * 2, 40),
    ],
)
def test_parts_are_no_larger_than_almost_all_crops(sizes: list[tuple[int, int]], wanted: int) -> None:
    assert part_px(96, sizes) == wanted
    assert part_px(16, sizes) == 16


def test_all_crops_are_drawn_from() -> None:
    plain = [(np.zeros((16, 16, 3), np.uint8), np.full((16, 16), i, np.uint8)) for i in range(3)]
    draw = _draw(*plain, size_px=16)
    seen = torch.cat([draw(step)[1][:, 0, 0] for step in range(20)])
    assert set(seen.tolist()) == {0, 1, 2}


def test_classes_weigh_by_one_over_the_root_of_their_share() -> None:
    labels = np.array([[0] * 16, [1] * 4 + [255] * 12], np.uint8)
    torch.testing.assert_close(class_weights([labels], 3), torch.tensor([0.5, 1.0, 0.0]))


def test_nothing_labelled_is_refused() -> None:
    with pytest.raises(LabelError, match="no pixel of the 2 training crops is labelled"):
        class_weights([np.full((3, 3), 255, np.uint8)] * 2, 2)
