import dataclasses
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset

from cytoseg.checkpoints import find_checkpoints, load_checkpoint
from cytoseg.diffusion.schedule import alpha_bar, noise_to
from cytoseg.diffusion.state import TrainState
from cytoseg.diffusion.train import StepReport, TrainSettings, draw_noise, new_state, rate_at, train, train_steps
from cytoseg.diffusion.unet import Architecture
from cytoseg.errors import CheckpointError, CytosegError
from cytoseg.runs import read_metrics

CPU = torch.device("cpu")
Crops = Callable[..., Dataset[Tensor]]
Settings = Callable[..., TrainSettings]
Train = Callable[..., TrainState]
Whole = tuple[TrainState, list[dict[str, Any]]]


class GreyCrops(Dataset[Tensor]):
    """Crops of one grey: the noise can then be read off the noisy crop."""

    def __init__(self, count: int, grey: float = -0.5) -> None:
        self._count, self._grey = count, grey

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((3, 16, 16), self._grey)


@pytest.fixture(scope="module")
def train_tiny(tiny: Architecture, make_settings: Settings, random_crops: Crops) -> Train:
    """Train ten steps in a folder; keywords change the settings."""

    def run(folder: Path, *, go_on: bool = False, on_step: Any = lambda _: None, **changes: Any) -> TrainState:
        settings = make_settings(**changes)
        crops_from = lambda first: random_crops(first, settings.crops)  # noqa: E731 - an argument with a name
        return train(folder, tiny, crops_from, settings=settings, device=CPU, go_on=go_on, on_step=on_step)

    return run


@pytest.fixture(scope="module")
def whole(train_tiny: Train, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What ten steps without a stop give: the state and the logged rows."""
    folder = tmp_path_factory.mktemp("whole")
    return train_tiny(folder), read_metrics(folder / "metrics.jsonl")


def _interrupt_at(crops_seen: int) -> Callable[[StepReport], None]:
    def on_step(report: StepReport) -> None:
        if report.crops_seen == crops_seen:
            os.kill(os.getpid(), signal.SIGINT)

    return on_step


def _assert_same(a: TrainState, b: TrainState) -> None:
    assert a.crops_seen == b.crops_seen
    assert int(a.ema.step) == int(b.ema.step)
    for x, y in (
        (a.unet.state_dict(), b.unet.state_dict()),
        (a.ema.ema_model.state_dict(), b.ema.ema_model.state_dict()),
        (a.optimiser.state_dict()["state"], b.optimiser.state_dict()["state"]),
    ):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path, train_tiny: Train, whole: Whole) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path, on_step=_interrupt_at(20))
    assert [p.name for p in find_checkpoints(tmp_path)] == ["checkpoint-000000020"]
    _assert_same(train_tiny(tmp_path, go_on=True), whole[0])
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["crops_seen"] for row in rows] == list(range(4, 41, 4))
    assert rows == whole[1]


def test_a_finished_training_is_extended_as_if_it_had_never_stopped(tmp_path: Path, train_tiny: Train) -> None:
    constant = {"rate_schedule": "constant", "warmup_crops": 0}
    assert train_tiny(tmp_path / "parts", crops=20, **constant).crops_seen == 20
    extended = train_tiny(tmp_path / "parts", go_on=True, **constant)
    _assert_same(extended, train_tiny(tmp_path / "whole", **constant))


def test_every_weight_learns_and_the_average_follows(tiny: Architecture, make_settings: Settings, whole: Whole) -> None:
    state, fresh = whole[0], new_state(tiny, make_settings())
    for name, weights in fresh.unet.named_parameters():
        now, average = state.unet.get_parameter(name), state.ema.ema_model.get_parameter(name)
        assert not torch.equal(now, weights), name
        assert not torch.equal(average, now), name


def test_a_kill_loses_only_what_came_after_the_checkpoint(tmp_path: Path, train_tiny: Train, whole: Whole) -> None:
    def die(report: StepReport) -> None:
        if report.crops_seen == 32:
            raise MemoryError

    with pytest.raises(MemoryError):
        train_tiny(tmp_path, on_step=die, checkpoint_crops=8)
    assert [p.name for p in find_checkpoints(tmp_path)] == ["checkpoint-000000024", "checkpoint-000000016"]
    _assert_same(train_tiny(tmp_path, go_on=True), whole[0])
    assert read_metrics(tmp_path / "metrics.jsonl") == whole[1]


def test_the_loss_is_the_squared_error_on_the_noise(
    tiny: Architecture, make_settings: Settings, random_crops: Crops
) -> None:
    settings = make_settings()
    state, crops, bars = new_state(tiny, settings), random_crops(0), alpha_bar("cosine", 10)
    steps = iter(train_steps(state, crops, settings=settings, accelerator=Accelerator(cpu=True)))
    for first in (0, 4):  # the second four crops have noise of their own
        t, eps = draw_noise(first, 4, settings=settings, timesteps=10)
        xt = torch.stack([noise_to(crops[first + i], float(bars[t[i]]), eps[i]) for i in range(4)])
        with torch.no_grad():
            expected = torch.nn.functional.mse_loss(state.unet(xt, t), eps).item()
        report = next(steps)
        assert report.loss == pytest.approx(expected, rel=1e-4)
        assert report.crops_seen == first + 4
        assert report.rate == rate_at(first, settings)


def test_the_loss_falls_where_there_is_something_to_learn(tiny: Architecture, make_settings: Settings) -> None:
    settings = make_settings(crops=120, rate=1e-2, rate_schedule="constant", warmup_crops=0)
    state = new_state(tiny, settings)
    steps = train_steps(state, GreyCrops(120), settings=settings, accelerator=Accelerator(cpu=True))
    losses = [step.loss for step in steps]
    assert len(losses) == 30
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize("grey", [float("nan"), 3e38])
def test_a_loss_that_is_no_number_stops_before_the_weights_are_spoilt(
    tiny: Architecture, make_settings: Settings, grey: float
) -> None:
    settings = make_settings()
    state, fresh = new_state(tiny, settings), new_state(tiny, settings)
    steps = train_steps(state, GreyCrops(8, grey), settings=settings, accelerator=Accelerator(cpu=True))
    with pytest.raises(CytosegError, match=r"the loss is (nan|inf) after 0 crops\. Lower training\.rate"):
        next(iter(steps))
    torch.testing.assert_close(state.unet.state_dict(), fresh.unet.state_dict(), rtol=0, atol=0)
    assert state.crops_seen == 0


def test_half_precision_keeps_weights_in_full(tmp_path: Path, train_tiny: Train) -> None:
    state = train_tiny(tmp_path, crops=8, precision="bf16")
    assert {p.dtype for p in state.unet.parameters()} == {torch.float32}
    assert load_checkpoint(tmp_path / "checkpoint-000000008").tensors["ema"]["init_conv.weight"].dtype == torch.float32


def test_the_last_step_takes_the_crops_that_are_left(tmp_path: Path, train_tiny: Train) -> None:
    reports: list[StepReport] = []
    state = train_tiny(tmp_path, crops=10, on_step=reports.append)
    assert [r.crops_seen for r in reports] == [4, 8, 10]
    assert state.crops_seen == 10
    assert [p.name for p in find_checkpoints(tmp_path)] == ["checkpoint-000000010"]


def test_a_finished_training_is_not_trained_again(tmp_path: Path, train_tiny: Train) -> None:
    done, steps = train_tiny(tmp_path, crops=8), list[StepReport]()
    _assert_same(train_tiny(tmp_path, crops=8, go_on=True, on_step=steps.append), done)
    assert steps == []
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


def test_a_checkpoint_is_not_overwritten_unasked(tmp_path: Path, train_tiny: Train) -> None:
    train_tiny(tmp_path, crops=8)
    with pytest.raises(CheckpointError, match=r"holds a checkpoint after 8 crops\. Add --resume"):
        train_tiny(tmp_path)


def test_another_architecture_is_refused(
    tmp_path: Path, train_tiny: Train, tiny: Architecture, make_settings: Settings, random_crops: Crops
) -> None:
    train_tiny(tmp_path, crops=8)
    other = dataclasses.replace(tiny, dim_mults=(1, 2, 2))
    with pytest.raises(CheckpointError, match=r"dim_mults \[1, 2\] there, \[1, 2, 2\] in the recipe"):
        train(tmp_path, other, random_crops, settings=make_settings(), device=CPU, go_on=True)


def test_a_damaged_checkpoint_is_named(tmp_path: Path, train_tiny: Train) -> None:
    train_tiny(tmp_path, crops=8)
    weights = tmp_path / "checkpoint-000000008" / "ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"checkpoint-000000008/ema\.safetensors: damaged"):
        train_tiny(tmp_path, go_on=True)


def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path: Path, train_tiny: Train, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = Path.write_bytes, list[str]()

    def full_at_the_second(path: Path, data: bytes) -> int:
        written.append(path.name)
        if written.count("optimiser.safetensors") == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_at_the_second)
        with pytest.raises(CheckpointError, match=r"checkpoint-000000016: .*No space left on device"):
            train_tiny(tmp_path, checkpoint_crops=8)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-000000008", "metrics.jsonl"]
    assert load_checkpoint(tmp_path / "checkpoint-000000008").state["crops_seen"] == 8
    _assert_same(train_tiny(tmp_path, go_on=True), whole[0])


@pytest.mark.parametrize(
    ("schedule", "crops_seen", "expected"),
    [
        ("constant", 0, 0.01),  # the first batch of 10 of 100 warm-up crops
        ("constant", 40, 0.05),
        ("constant", 90, 0.1),
        ("constant", 900, 0.1),
        ("cosine", 500, 0.055),
        ("cosine", 1000, 0.01),
        ("cosine", 2000, 0.01),
    ],
)
def test_rate_by_hand(make_settings: Settings, schedule: str, crops_seen: int, expected: float) -> None:
    settings = make_settings(crops=1000, batch=10, rate=0.1, rate_schedule=schedule, warmup_crops=100)
    assert rate_at(crops_seen, settings) == pytest.approx(expected)


def test_without_warm_up_the_first_rate_is_the_highest(make_settings: Settings) -> None:
    assert rate_at(0, make_settings(rate=0.1, warmup_crops=0)) == pytest.approx(0.1)


def test_noise_of_a_crop_depends_on_seed_and_number_only(make_settings: Settings) -> None:
    settings = make_settings()
    t, eps = draw_noise(0, 8, settings=settings, timesteps=10)
    assert t.shape == (8,)
    assert eps.shape == (8, 3, 16, 16)
    later_t, later_eps = draw_noise(5, 3, settings=settings, timesteps=10)
    assert torch.equal(later_t, t[5:])
    assert torch.equal(later_eps, eps[5:])
    assert not torch.equal(draw_noise(0, 8, settings=make_settings(seed=4), timesteps=10)[1], eps)


def test_all_timesteps_are_drawn(make_settings: Settings) -> None:
    t, eps = draw_noise(0, 300, settings=make_settings(size_px=2), timesteps=10)
    assert sorted(set(t.tolist())) == list(range(10))
    assert eps.std().item() == pytest.approx(1.0, abs=0.05)
