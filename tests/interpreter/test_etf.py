import pytest
import torch

from cytoseg.interpreter.etf import simplex


@pytest.mark.parametrize(("width", "classes"), [(32, 2), (32, 3), (3, 3), (128, 34)])
def test_corners_have_length_1_and_equal_angles(width: int, classes: int) -> None:
    corners = simplex(width, classes, seed=3, member=0)
    assert corners.shape == (width, classes)
    expected = torch.full((classes, classes), -1 / (classes - 1))
    expected.fill_diagonal_(1.0)
    torch.testing.assert_close(corners.T @ corners, expected, atol=1e-5, rtol=0)


def test_seed_and_member_decide_the_turn() -> None:
    first, again = simplex(8, 3, seed=1, member=0), simplex(8, 3, seed=1, member=0)
    assert torch.equal(first, again)
    for other in (simplex(8, 3, seed=1, member=1), simplex(8, 3, seed=2, member=0)):
        assert not torch.allclose(first, other, atol=0.1)


def test_more_classes_than_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="a simplex of 4 classes does not fit in 3 channels"):
        simplex(3, 4, seed=0, member=0)
