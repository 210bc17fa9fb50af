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

Run = Callable[..., TrainState]


@pytest.fixture
def run(
    tiny: Architecture, make_settings: Callable[..., TrainSettings], random_crops: Callable[[int], Dataset[Tensor]]
) -> Run:
    """Train in a folder: ten steps unless settings are given."""

    def run(folder: Path, *, go_on: bool = False, on_step: Any = lambda _: None, **changes: Any) -> TrainState:
        settings = make_settings(**{k: v for k, v in changes.items() if k not in ("architecture", "crops_from")})
        return train(
            folder,
            changes.get("architecture", tiny),
            changes.get("crops_from", random_crops),
            settings=settings,
            device=torch.device("cpu"),
            go_on=go_on,
            on_step=on_step,
        )

    return run


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


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path, run: Run) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", on_step=_interrupt_at(20))
    assert [p.name for p in find_checkpoints(tmp_path / "parts")] == ["checkpoint-000000020"]
    _assert_same(run(tmp_path / "parts", go_on=True), whole)
    rows = read_metrics(tmp_path / "parts" / "metrics.jsonl")
    assert [row["crops_seen"] for row in rows] == list(range(4, 41, 4))
    assert rows == read_metrics(tmp_path / "whole" / "metrics.jsonl")


def test_a_finished_training_is_extended_as_if_it_had_never_stopped(tmp_path: Path, run: Run) -> None:
    constant = {"rate_schedule": "constant", "warmup_crops": 0}
    short = run(tmp_path / "parts", crops=20, crops_from=None or _first_20, **constant)
    assert short.crops_seen == 20
    _assert_same(run(tmp_path / "parts", go_on=True, **constant), run(tmp_path / "whole", **constant))


def test_the_training_is_not_a_standstill(tmp_path: Path, run: Run, tiny: Architecture) -> None:
    """Equal states above would prove nothing if no weight ever moved."""
    state = run(tmp_path)
    fresh = new_state(tiny, _settings_of(run))
    moved = [not torch.equal(a, b) for a, b in zip(state.unet.parameters(), fresh.unet.parameters(), strict=True)]
    assert all(moved)
