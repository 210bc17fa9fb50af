import pytest
import torch
from torch import Tensor, nn

from cytoseg.interpreter.mean_teacher import Unlabelled, UnlabelledParts, ramp_at, teacher_loss


def _crop(number: int) -> Tensor:
    return torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(number)) * 2 - 1


class Fixed(nn.Module):
    """Gives the first K channels of an image as scores, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2] * self.factor


def test_a_step_follows_from_the_seed_and_its_number() -> None:
    draw = UnlabelledParts(Unlabelled(_crop, 1.0), batch=2, seed=5)
    first, again = draw(3), UnlabelledParts(Unlabelled(_crop, 1.0), batch=2, seed=5)(3)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    weak, strong, inside = first
    assert torch.equal(weak, torch.stack([_crop(6), _crop(7)]))
    assert strong.shape == weak.shape
    assert not torch.equal(strong, weak)
    for rectangle in inside:  # 30 to 70 % of 8 x 12 px
        rows, columns = rectangle.any(1).sum().item(), rectangle.any(0).sum().item()
        assert 2 <= rows <= 5
        assert 3 <= columns <= 8
        assert rectangle.sum().item() == rows * columns
    assert not torch.equal(draw(4)[1], strong)


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (20, 0.0), (30, 0.5), (40, 1.0), (99, 1.0)])
def test_the_weight_rises_between_a_fifth_and_two_fifths_of_the_steps(step: int, share: float) -> None:
    assert ramp_at(step, 100) == pytest.approx(share)


def _parts(first: list[float], second: list[float], *, pasted: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Two parts of one pixel each, whose channels are the scores; unchanged."""
    x = torch.tensor([first, second])[:, :, None, None]
    return x, x.clone(), torch.full((2, 1, 1), pasted)


def test_only_what_the_teacher_is_sure_of_counts() -> None:
    student, teacher = Fixed(1.0), Fixed(1.0)
    loss = teacher_loss(student, teacher, _parts([3.0, 0.0, 0.0], [0.5, 0.0, 0.0], pasted=False), precision="no")
    sure = torch.tensor([3.0, 0.0]).softmax(0)[0]
    assert sure > 0.8
    assert loss.item() == pytest.approx(-sure.log().item() / 2)  # the other pixel is unsure, and counts in the mean
    loss.backward()  # type: ignore[no-untyped-call]
    assert student.factor.grad is not None
    assert teacher.factor.grad is None


def test_pasted_pixels_bring_what_is_right_there_along() -> None:
    parts = _parts([3.0, 0.0, 0.0], [0.0, 3.0, 0.0], pasted=True)
    same = teacher_loss(Fixed(1.0), Fixed(1.0), parts, precision="no")
    plain = teacher_loss(Fixed(1.0), Fixed(1.0), (*parts[:2], ~parts[2]), precision="no")
    torch.testing.assert_close(same, plain)
