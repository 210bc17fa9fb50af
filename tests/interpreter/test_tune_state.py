import hashlib
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from cytoseg.checkpoints import save_checkpoint
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.unet import build_unet
from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.settings import TuneSettings
from cytoseg.interpreter.tune import _new_state
from cytoseg.interpreter.tune_state import Best, Resume, TuneState

TINY = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", objective="pred_noise")


def _state(seed: int) -> TuneState[Decoder]:
    settings = TuneSettings(steps=4, passes=100, batch=2, size_px=16, rate=5e-3, early=0.5, seed=0, precision="no")
    return _new_state(Decoder(build_unet(TINY, seed=seed), TINY, 3, seed=seed), settings, torch.device("cpu"))


@pytest.fixture
def worked() -> TuneState[Decoder]:
    """After two steps of something."""
    state = _state(1)
    for step in (1, 2):
        loss = state.network(torch.ones(1, 3, 8, 8)).square().mean()
        loss.backward()
        state.optimiser.step()
        state.average.update()
        state.step = step
        state.best.offer(step, 1.0 / step, state.averaged)
    return state


def test_all_of_a_state_comes_back(worked: TuneState[Decoder], tmp_path: Path) -> None:
    resume, other = Resume(tmp_path / "unfinished", {"seed": 1}), _state(2)
    resume.save(worked)
    resume.restore(other)
    assert (other.step, other.best.step, other.best.loss) == (2, 2, 0.5)
    for mine, found in (
        (worked.network.state_dict(), other.network.state_dict()),
        (worked.averaged.state_dict(), other.averaged.state_dict()),
        (worked.best.weights, other.best.weights),
    ):
        torch.testing.assert_close(dict(found), dict(mine), atol=0, rtol=0)
    assert int(other.average.step) == int(worked.average.step)
    torch.testing.assert_close(other.optimiser.state_dict()["state"], worked.optimiser.state_dict()["state"])


@pytest.mark.parametrize("found", ["nothing", "another origin", "damaged"])
def test_what_does_not_fit_is_not_gone_on_with(worked: TuneState[Decoder], tmp_path: Path, found: str) -> None:
    resume, other = Resume(tmp_path / "unfinished", {"seed": 1}), _state(2)
    if found != "nothing":
        Resume(resume.folder, {"seed": 2 if found == "another origin" else 1}).save(worked)
    if found == "damaged":
        (resume.folder / "model.safetensors").write_bytes(b"12")
    resume.restore(other)
    assert (other.step, other.best.weights) == (0, {})
    assert other.optimiser.state_dict()["state"] == {}


def test_nothing_judged_yet_is_saved_too(tmp_path: Path) -> None:
    resume, state, other = Resume(tmp_path / "unfinished", {}), _state(1), _state(2)
    resume.save(state)
    other.best = Best(0.1, 3, {"a": torch.ones(1)})
    resume.restore(other)
    assert (other.best.loss, other.best.step, other.best.weights) == (float("inf"), 0, {})
    resume.forget()
    resume.forget()
    assert not resume.folder.exists()


def test_a_folder_that_is_no_state_of_a_tuning_is_passed_over(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "unfinished", {}, {"other": 1})
    state = _state(1)
    Resume(tmp_path / "unfinished", {}).restore(state)
    assert state.step == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": "x"},
        {"average_step": -1},
        *(
            pytest.param(wrong, marks=pytest.mark.slow)
            for wrong in ({"best_loss": [1]}, {"best_step": None}, {"best_loss": None})
        ),
    ],
)
def test_a_state_that_says_nonsense_changes_nothing(
    worked: TuneState[Decoder], tmp_path: Path, wrong: dict[str, object]
) -> None:
    resume, other = Resume(tmp_path / "unfinished", {"seed": 1}), _state(2)
    resume.save(worked)
    path = resume.folder / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    resume.restore(other)
    assert (other.step, other.best.weights) == (0, {})


@pytest.mark.parametrize(
    "group", ["model", "optimiser", *(pytest.param(group, marks=pytest.mark.slow) for group in ("average", "best"))]
)
def test_tensors_of_another_network_change_nothing(worked: TuneState[Decoder], tmp_path: Path, group: str) -> None:
    resume, other = Resume(tmp_path / "unfinished", {"seed": 1}), _state(2)
    resume.save(worked)
    state = json.loads((resume.folder / "state.json").read_text())
    tensors = safetensors.torch.load_file(resume.folder / f"{group}.safetensors")
    data = safetensors.torch.save({name: torch.zeros(2, 7) for name in tensors} | {"more": torch.zeros(1)})
    (resume.folder / f"{group}.safetensors").write_bytes(data)
    state["sha256"][group] = hashlib.sha256(data).hexdigest()
    (resume.folder / "state.json").write_text(json.dumps(state))
    resume.restore(other)
    torch.testing.assert_close(dict(other.network.state_dict()), dict(_state(2).network.state_dict()), atol=0, rtol=0)
    assert (other.step, other.optimiser.state_dict()["state"]) == (0, {})


@pytest.mark.parametrize("group", ["model", "average", "best"])
def test_weights_that_are_nan_are_not_gone_on_with(worked: TuneState[Decoder], tmp_path: Path, group: str) -> None:
    resume, other = Resume(tmp_path / "unfinished", {"seed": 1}), _state(2)
    weights = {"model": worked.network, "average": worked.averaged}.get(group, worked.network).state_dict()
    if group == "best":
        worked.best.weights = weights = {name: tensor.clone() for name, tensor in weights.items()}
    next(iter(weights.values())).fill_(float("nan"))
    resume.save(worked)
    resume.restore(other)
    assert (other.step, other.best.weights) == (0, {})
    assert all(bool(tensor.isfinite().all()) for tensor in other.network.state_dict().values())
