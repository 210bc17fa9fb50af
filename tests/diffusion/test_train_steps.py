import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset

from cytoseg.diffusion.add_noise import add_noise, alpha_bar
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.settings import TrainSettings, rate_at
from cytoseg.diffusion.train_steps import _share, draw_noise, new_state, train_steps
from cytoseg.errors import CytosegError, RecipeError, SlideError

Crops = Callable[..., Dataset[Tensor]]
Settings = Callable[..., TrainSettings]


class GreyCrops(Dataset[Tensor]):
    """Crops of one grey: the noise can then be read off the noisy crop."""

    def __init__(self, count: int, grey: float = -0.5) -> None:
        self._count, self._grey = count, grey

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((3, 16, 16), self._grey)


def test_the_loss_is_the_squared_error_on_the_noise(
    tiny: Architecture, make_settings: Settings, random_crops: Crops
) -> None:
    settings = make_settings()
    state, crops, bars = new_state(tiny, settings), random_crops(0), alpha_bar("cosine", 10)
    steps = iter(train_steps(state, crops, settings=settings, accelerator=Accelerator(cpu=True)))
    for first in (0, 4):  # the second four crops have noise of their own
        t, eps = draw_noise(torch.arange(first, first + 4), settings=settings, timesteps=10)
        xt = torch.stack([add_noise(crops[first + i], float(bars[t[i]]), eps[i]) for i in range(4)])
        with torch.no_grad():
            expected = torch.nn.functional.mse_loss(state.unet(xt, t), eps).item()
        report = next(steps)
        assert report.reading is not None
        assert report.reading.mean == pytest.approx(expected, rel=1e-4)
        assert report.crops_seen == first + 4
        assert report.rate == rate_at(first, settings)


@pytest.mark.slow
def test_the_loss_falls_where_there_is_something_to_learn(tiny: Architecture, make_settings: Settings) -> None:
    settings = make_settings(crops=120, rate=1e-2, rate_schedule="constant", warmup_crops=0)
    state = new_state(tiny, settings)
    steps = train_steps(state, GreyCrops(120), settings=settings, accelerator=Accelerator(cpu=True))
    losses = [step.reading.mean for step in steps if step.reading is not None]
    assert len(losses) == 30
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize("grey", [float("nan"), 3e38])
def test_a_nan_loss_stops_before_the_weights_are_changed(
    tiny: Architecture, make_settings: Settings, grey: float
) -> None:
    settings = make_settings()
    state, fresh = new_state(tiny, settings), new_state(tiny, settings)
    steps = train_steps(state, GreyCrops(8, grey), settings=settings, accelerator=Accelerator(cpu=True))
    with pytest.raises(CytosegError, match=r"the loss is (nan|inf) at crop 0, t = \d\. Lower training\.rate"):
        next(iter(steps))
    torch.testing.assert_close(state.unet.state_dict(), fresh.unet.state_dict(), rtol=0, atol=0)
    assert state.crops_seen == 0


def test_noise_of_a_crop_depends_on_seed_and_number_only(make_settings: Settings) -> None:
    settings = make_settings()
    t, eps = draw_noise(torch.arange(8), settings=settings, timesteps=10)
    assert t.shape == (8,)
    assert eps.shape == (8, 3, 16, 16)
    later_t, later_eps = draw_noise(torch.arange(5, 8), settings=settings, timesteps=10)
    assert torch.equal(later_t, t[5:])
    assert torch.equal(later_eps, eps[5:])
    assert not torch.equal(draw_noise(torch.arange(8), settings=make_settings(seed=4), timesteps=10)[1], eps)


def test_all_timesteps_are_drawn(make_settings: Settings) -> None:
    t, eps = draw_noise(torch.arange(300), settings=make_settings(size_px=2), timesteps=10)
    assert sorted(set(t.tolist())) == list(range(10))
    assert eps.std().item() == pytest.approx(1.0, abs=0.05)


def _process(rank: int, processes: int) -> Any:
    return types.SimpleNamespace(process_index=rank, num_processes=processes, device=torch.device("cpu"))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_out_the_crops_of_each_step(
    make_settings: Settings, random_crops: Crops, processes: int
) -> None:
    settings, crops = make_settings(batch=8), random_crops(12)  # 28 crops to go: three steps and a half
    shares = [list(_share(crops, 12, settings=settings, accelerator=_process(r, processes))) for r in range(processes)]
    seen = [sorted(number for share in step for number in share[0].tolist()) for step in zip(*shares, strict=True)]
    assert seen == [list(range(12, 20)), list(range(20, 28)), list(range(28, 36)), list(range(36, 40))]
    for number, crop in ((n, c) for share in shares for step in share for n, c in zip(*step, strict=True)):
        assert torch.equal(crop, crops[int(number) - 12])


@pytest.mark.parametrize(("batch", "first"), [(4, 1), (3, 0)])
def test_a_batch_that_cannot_be_shared_out_is_refused(
    make_settings: Settings, random_crops: Crops, batch: int, first: int
) -> None:
    shares = _share(random_crops(first), first, settings=make_settings(batch=batch), accelerator=_process(0, 3))
    with pytest.raises(
        RecipeError, match=rf"training\.batch={batch} and the {40 - first} remaining " rf"crops .* processes, 3"
    ):
        next(iter(shares))


class LostSlide(Dataset[Tensor]):
    """A slide that cannot be read any more from the sixth crop on."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Tensor:
        if index >= 6:
            raise SlideError("a.tif: cannot be read.")
        return torch.zeros(3, 16, 16)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_slide_lost_on_the_way_is_named_in_one_line(make_settings: Settings, workers: int) -> None:
    share = _share(LostSlide(), 0, settings=make_settings(workers=workers), accelerator=_process(0, 1))
    with pytest.raises(SlideError) as caught:
        list(share)
    assert str(caught.value) == "a.tif: cannot be read."
