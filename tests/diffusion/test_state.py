import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cytoseg.checkpoints import find_checkpoints, load_state
from cytoseg.diffusion.state import TrainState, load_backbone, prune, resume, save
from cytoseg.diffusion.train import TrainSettings, new_state
from cytoseg.diffusion.unet import Architecture
from cytoseg.errors import CheckpointError


@pytest.fixture
def state(tiny: Architecture, make_settings: Callable[..., TrainSettings]) -> TrainState:
    """A state after two updates on made gradients, so that its averaged weights differ from its weights."""
    state = new_state(tiny, make_settings())
    for step in (1, 2):
        for parameter in state.unet.parameters():
            parameter.grad = torch.full_like(parameter, 0.1 * step)
        state.optimiser.step()
        state.ema.update()
        state.crops_seen += 4
    return state


def test_what_is_saved_is_resumed_bit_by_bit(
    tmp_path: Path, state: TrainState, tiny: Architecture, make_settings: Callable[..., TrainSettings]
) -> None:
    assert save(tmp_path, state) == 8
    fresh = new_state(tiny, make_settings(seed=9))
    assert resume(tmp_path, fresh) == tmp_path / "checkpoint-000000008"
    assert fresh.crops_seen == 8
    assert int(fresh.ema.step) == 2
    for a, b in ((fresh.unet, state.unet), (fresh.ema.ema_model, state.ema.ema_model)):
        torch.testing.assert_close(a.state_dict(), b.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(
        fresh.optimiser.state_dict()["state"], state.optimiser.state_dict()["state"], rtol=0, atol=0
    )


def test_without_a_checkpoint_the_state_is_unchanged(tmp_path: Path, state: TrainState) -> None:
    before = {name: weights.clone() for name, weights in state.unet.state_dict().items()}
    assert resume(tmp_path, state) is None
    assert state.crops_seen == 8
    torch.testing.assert_close(dict(state.unet.state_dict()), before, rtol=0, atol=0)


def test_the_newest_two_checkpoints_are_kept(tmp_path: Path, state: TrainState) -> None:
    for crops_seen in (8, 1200, 90):
        state.crops_seen = crops_seen
        save(tmp_path, state)
    assert [p.name for p in find_checkpoints(tmp_path)] == ["checkpoint-000001200", "checkpoint-000000090"]
    prune(tmp_path, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-000001200"]


def test_a_checkpoint_says_what_it_is(tmp_path: Path, state: TrainState, tiny: Architecture) -> None:
    save(tmp_path, state)
    details = load_state(tmp_path / "checkpoint-000000008")
    assert details["crops_seen"] == 8
    assert Architecture.from_json(details["architecture"]) == tiny
    assert details["sha256"].keys() == {"model", "ema", "optimiser"}
    assert "torch" in details["versions"]


def test_another_architecture_is_not_resumed(
    tmp_path: Path, state: TrainState, tiny: Architecture, make_settings: Callable[..., TrainSettings]
) -> None:
    save(tmp_path, state)
    other = new_state(dataclasses.replace(tiny, dim=16), make_settings())
    with pytest.raises(CheckpointError, match=r"checkpoint-000000008: .*\(dim 8 there, 16 in the recipe\)"):
        resume(tmp_path, other)


def test_the_backbone_has_the_averaged_weights(tmp_path: Path, state: TrainState, tiny: Architecture) -> None:
    save(tmp_path, state)
    unet, architecture, origin = load_backbone(tmp_path, tiny)
    assert architecture == tiny
    assert not unet.training
    torch.testing.assert_close(unet.state_dict(), state.ema.ema_model.state_dict(), rtol=0, atol=0)
    assert not torch.equal(unet.state_dict()["init_conv.weight"], state.unet.state_dict()["init_conv.weight"])
    assert origin == {"crops_seen": 8, "sha256": load_state(tmp_path / "checkpoint-000000008")["sha256"]["ema"]}


def test_a_backbone_of_any_architecture_can_be_taken(tmp_path: Path, state: TrainState, tiny: Architecture) -> None:
    save(tmp_path, state)
    assert load_backbone(tmp_path)[1] == tiny
    with pytest.raises(CheckpointError, match=r"another architecture \(timesteps 10 there, 20 in the recipe\)"):
        load_backbone(tmp_path, dataclasses.replace(tiny, timesteps=20))


def test_no_backbone_yet(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint yet\. Run `cytoseg train-ddpm`"):
        load_backbone(tmp_path)
