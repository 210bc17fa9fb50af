import pytest
import torch
from torch import Tensor

from cytoseg.diffusion.loss_log import WATCHED_STEPS, LossGuard, LossReading, LossWindow
from cytoseg.errors import CytosegError


def _reading(*losses: float, t: tuple[int, ...] | None = None, first: int = 0) -> LossReading:
    numbers = torch.arange(first, first + len(losses))
    return LossReading(numbers, torch.tensor(t or [0] * len(losses)), torch.tensor(losses))


def test_losses_are_averaged_in_ranges_of_timesteps() -> None:
    reading = _reading(1.0, 3.0, 8.0, t=(0, 99, 950))
    assert reading.mean == 4.0
    assert reading.by_timestep(1000) == {"0-99": 2.0, "900-999": 8.0}
    assert _reading(1.0, 3.0, t=(4, 24)).by_timestep(25) == {"3-5": 1.0, "24-24": 3.0}


class Two:
    """Stands for two processes: the other one had the crops before ours."""

    def gather(self, ours: Tensor) -> Tensor:
        theirs = ours.clone()
        theirs[:, 0] -= 1
        return torch.cat([ours, theirs])


def test_a_window_collects_steps_and_processes_in_the_order_of_the_crops() -> None:
    window = LossWindow(Two(), every=2)  # type: ignore[arg-type] # a double
    window.add(torch.tensor([1, 3]), torch.tensor([7, 8]), torch.tensor([0.25, 0.5]))
    assert not window.due
    window.add(torch.tensor([5]), torch.tensor([9]), torch.tensor([1.0]))
    assert window.due
    reading = window.read()
    assert reading.numbers.tolist() == [0, 1, 2, 3, 4, 5]
    assert reading.t.tolist() == [7, 7, 8, 8, 9, 9]
    assert reading.losses.tolist() == [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]
    assert not window.due


def test_the_first_broken_crop_is_named() -> None:
    with pytest.raises(CytosegError, match=r"the loss is inf at crop 41, t = 6\. Lower training\.rate"):
        LossGuard(torch.ones(1000)).check(_reading(0.1, float("inf"), float("nan"), t=(5, 6, 7), first=40))


def test_an_explosion_is_a_mean_over_many_steps_not_one_bad_crop() -> None:
    guard = LossGuard(torch.ones(1000))
    for _ in range(WATCHED_STEPS):
        guard.check(_reading(0.02))
    guard.check(_reading(100.0))  # (49 * .02 + 100) / 50 is below the bound
    with pytest.raises(CytosegError, match=r"diverged: 3\.\d on average up to crop 9,"):
        guard.check(_reading(60.0, first=9))  # (48 * .02 + 100 + 60) / 50


def test_the_first_steps_of_an_untrained_network_are_no_explosion() -> None:
    guard = LossGuard(torch.ones(1000))
    for _ in range(WATCHED_STEPS - 1):
        guard.check(_reading(20.0))
    with pytest.raises(CytosegError, match="diverged"):
        guard.check(_reading(20.0))


def test_the_weight_of_a_timestep_is_no_explosion() -> None:
    """Predicting x0, the loss of a small t is multiplied by thousands; 0.5 of that is half of what knows nothing."""
    guard = LossGuard(torch.tensor([4000.0, 2.0]))
    for _ in range(2 * WATCHED_STEPS):
        guard.check(_reading(2000.0, 1.0, t=(0, 1)))
    for _ in range(4):
        guard.check(_reading(2000.0, 4.0, t=(0, 1)))
    with pytest.raises(CytosegError, match=r"diverged: 3\.\d on average"):
        guard.check(_reading(2000.0, 520.0, t=(0, 1)))  # (45 * .5 + 4 * 1.25 + 130.25) / 50
