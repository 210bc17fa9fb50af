import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cytoseg.classes import IGNORE
from cytoseg.errors import CheckpointError
from cytoseg.interpreter.labelled_training import (
    LabelledPictures,
    apply_gradients,
    is_check,
    labelled_parts,
    new_state,
    set_rates,
    training_steps,
)
from cytoseg.interpreter.settings import SegdiffSettings
from cytoseg.interpreter.tune_state import Resume, TuneState

SETTINGS = SegdiffSettings(steps=40, batch=1, size_px=16, rate=0.5, seed=0, precision="no")


def _state() -> TuneState[nn.Conv2d]:
    def optimiser(network: nn.Conv2d) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"params": [network.weight]}, {"params": [network.bias], "share": 0.1}], lr=1.0)

    return new_state(nn.Conv2d(1, 1, 1), optimiser, torch.device("cpu"))


def _crop() -> LabelledPictures:
    return LabelledPictures([np.full((16, 16, 3), 9, np.uint8)], [np.zeros((16, 16), np.uint8)], ["a"])


@pytest.mark.parametrize(("step", "rate"), [(0, 0.25), (1, 0.5 * 0.5 * (1 + math.cos(math.pi / 40))), (20, 0.25)])
def test_the_rate_rises_for_a_twentieth_and_falls_along_a_cosine(step: int, rate: float) -> None:
    state = _state()
    state.step = step
    set_rates(state, SETTINGS)
    assert [group["lr"] for group in state.optimiser.param_groups] == pytest.approx([rate, 0.1 * rate])


def test_twenty_checks_are_made_and_each_step_is_one_of_a_short_training() -> None:
    assert [step for step in range(1, 41) if is_check(step, 40)] == list(range(2, 41, 2))
    assert all(is_check(step, 3) for step in (1, 2, 3))


def test_gradients_are_clipped_to_length_one() -> None:
    state = _state()
    assert state.network.bias is not None
    before = state.network.weight.item(), state.network.bias.item()
    state.network.weight.grad = torch.full((1, 1, 1, 1), 30.0)
    state.network.bias.grad = torch.full((1,), 40.0)
    assert apply_gradients(state, torch.tensor(7.0), what="this", advice="") == 7.0
    assert before[0] - state.network.weight.item() == pytest.approx(0.6, abs=1e-5)
    assert before[1] - state.network.bias.item() == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize(("size", "side_px"), [((48, 48), 48), ((40, 200), 40), ((64, 64), 64), ((100, 99), 96)])
def test_parts_of_small_crops_are_not_padded(size: tuple[int, int], side_px: int) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 3, shape, dtype=np.uint8) for shape in (size, (120, 120))]
    pictures = [np.repeat(ids[..., None], 3, axis=2) for ids in maps]
    settings = SegdiffSettings(batch=8, size_px=96, seed=0, precision="no")
    x, target = labelled_parts(LabelledPictures(pictures, maps, ["a", "b"]), settings)(0)
    assert x.shape == (8, 3, side_px, side_px)
    assert target.shape == (8, side_px, side_px)
    assert not (target == IGNORE).any()


@pytest.mark.parametrize("wrong", ["loss", "gradient"])
def test_what_is_not_finite_changes_no_weight(wrong: str) -> None:
    state = _state()
    state.step = 4
    before = state.network.weight.item()
    state.network.weight.grad = torch.full((1, 1, 1, 1), torch.inf if wrong == "gradient" else 1.0)
    loss = torch.tensor(torch.nan if wrong == "loss" else 1.0)
    with pytest.raises(CheckpointError, match=r"^this: the loss of step 5 is not finite\. Do that\.$"):
        apply_gradients(state, loss, what="this", advice="Do that.")
    assert state.network.weight.item() == before


def test_the_steps_of_a_training_are_yielded_averaged_and_saved_at_checks(tmp_path: Path) -> None:
    state, resume = _state(), Resume(tmp_path / "unfinished", {})
    settings = SegdiffSettings(steps=40, batch=2, size_px=16, seed=0, precision="no")

    def update(_state: TuneState[nn.Conv2d], batch: tuple[torch.Tensor, torch.Tensor]) -> float:
        assert [part.shape for part in batch] == [(2, 3, 16, 16), (2, 16, 16)]
        return float(_state.step)

    steps = training_steps(state, labelled_parts(_crop(), settings), update, steps=40, resume=resume)
    assert [next(steps), next(steps)] == [(1, 0.0), (2, 1.0)]
    assert not resume.folder.exists()
    assert next(steps) == (3, 2.0)
    found = _state_of(resume)
    assert found.average is not None
    assert (found.step, int(found.average.step)) == (2, 2)


def _state_of(resume: Resume) -> TuneState[nn.Conv2d]:
    state = _state()
    resume.restore(state)
    return state
