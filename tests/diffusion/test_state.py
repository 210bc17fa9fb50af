import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cytoseg.checkpoints import load_state, save_checkpoint
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.settings import TrainSettings
from cytoseg.diffusion.state import (
    TrainState,
    changed_values,
    export_averaged,
    load_backbone,
    prune,
    resume_from_newest,
    save,
)
from cytoseg.diffusion.train_steps import new_state
from cytoseg.errors import CheckpointError, DamagedError

RECIPE = {"training": {"rate": 0.1, "crops": 40}, "crops": {"size_px": 16}}


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
    assert save(tmp_path, state, recipe=RECIPE) == tmp_path / "checkpoint-000000008"
    fresh = new_state(tiny, make_settings(seed=9))
    resumed = resume_from_newest(tmp_path, fresh, on_damaged=pytest.fail)
    assert resumed is not None
    assert resumed.recipe == RECIPE
    assert fresh.crops_seen == 8
    assert int(fresh.ema.step) == 2
    for a, b in ((fresh.unet, state.unet), (fresh.ema.ema_model, state.ema.ema_model)):
        torch.testing.assert_close(a.state_dict(), b.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(
        fresh.optimiser.state_dict()["state"], state.optimiser.state_dict()["state"], rtol=0, atol=0
    )


def test_without_a_checkpoint_the_state_is_unchanged(tmp_path: Path, state: TrainState) -> None:
    before = {name: weights.clone() for name, weights in state.unet.state_dict().items()}
    assert resume_from_newest(tmp_path, state, on_damaged=pytest.fail) is None
    assert state.crops_seen == 8
    torch.testing.assert_close(dict(state.unet.state_dict()), before, rtol=0, atol=0)


def _names(folder: Path) -> list[int]:
    return sorted(int(p.name.split("-")[1]) for p in folder.iterdir())


def test_the_newest_checkpoints_are_kept(tmp_path: Path, state: TrainState) -> None:
    for crops_seen in (8, 1200, 90):
        state.crops_seen = crops_seen
        save(tmp_path, state, recipe=RECIPE)
    prune(tmp_path, keep=2, newest=1200)
    assert _names(tmp_path) == [90, 1200]
    prune(tmp_path, keep=1, newest=1200)
    assert _names(tmp_path) == [1200]


def test_milestones_are_kept_for_good(tmp_path: Path) -> None:
    for seen in range(96, 1300, 100):  # each time a little before or after a round number
        (tmp_path / f"checkpoint-{seen:09d}").mkdir()
        prune(tmp_path, keep=2, newest=seen, keep_every_crops=500)
    assert _names(tmp_path) == [596, 1096, 1196, 1296]


def test_the_averaged_weights_are_exported_in_half_precision(tmp_path: Path, state: TrainState) -> None:
    written = export_averaged(save(tmp_path / "ddpm", state, recipe=RECIPE), tmp_path / "base")
    assert (written["crops_seen"], written["recipe"]) == (8, RECIPE)
    assert list(written["sha256"]) == ["ema"]
    unet, architecture, origin = load_backbone(tmp_path / "base", state.architecture)
    assert architecture == state.architecture
    assert origin == {"crops_seen": 8, "sha256": written["sha256"]["ema"]}
    expected = {name: weights.half().float() for name, weights in state.ema.ema_model.state_dict().items()}
    torch.testing.assert_close(dict(unet.state_dict()), expected, rtol=0, atol=0)
    assert all(weights.dtype == torch.float32 for weights in unet.parameters())


def test_a_weight_beyond_half_precision_is_not_exported(tmp_path: Path, state: TrainState) -> None:
    next(state.ema.ema_model.parameters()).data[0] = 1e5
    checkpoint = save(tmp_path, state, recipe=RECIPE)
    with pytest.raises(CheckpointError, match=r"a weight is too large for half precision\. Export another"):
        export_averaged(checkpoint, tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_what_was_passed_over_counts_for_nothing(tmp_path: Path) -> None:
    """48 and 32 were damaged, the training went on from 16 and stands at 20."""
    for seen in (8, 16, 20, 32, 48):
        (tmp_path / f"checkpoint-{seen:09d}").mkdir()
    prune(tmp_path, keep=2, newest=20)
    assert _names(tmp_path) == [16, 20, 32, 48]


def test_only_checkpoints_are_removed(tmp_path: Path) -> None:
    for name in ("checkpoint-000000008", "checkpoint-000000008-good", "checkpoint-000000016"):
        (tmp_path / name).mkdir()
    prune(tmp_path, keep=1, newest=16)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-000000008-good", "checkpoint-000000016"]


def test_another_kind_of_checkpoint_is_no_backbone(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "bundle", {"ensemble": {}}, {"kind": "bundle"})
    with pytest.raises(CheckpointError, match=r"bundle: not a checkpoint of a diffusion model\. Name the ddpm"):
        load_backbone(tmp_path / "bundle")


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, state: TrainState) -> None:
    next(state.unet.parameters()).data[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"not saved after 8 crops, the weights contain NaN"):
        save(tmp_path, state, recipe=RECIPE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "missing", "state cut", "state missing"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, state: TrainState, damage: str) -> None:
    save(tmp_path, state, recipe=RECIPE)
    state.crops_seen = 12
    newest = save(tmp_path, state, recipe=RECIPE)
    file = newest / ("state.json" if "state" in damage else "optimiser.safetensors")
    if "cut" in damage:
        file.write_bytes(file.read_bytes()[:-9])
    else:
        file.unlink()
    notes = list[str]()
    resumed = resume_from_newest(tmp_path, state, on_damaged=notes.append)
    assert resumed is not None
    assert state.crops_seen == resumed.crops_seen == 8
    assert len(notes) == 1
    assert notes[0].startswith("Skipped checkpoint-000000012: ")


def test_when_all_are_damaged_nothing_starts_over_unasked(tmp_path: Path, state: TrainState) -> None:
    (save(tmp_path, state, recipe=RECIPE) / "ema.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"all 1 checkpoints are damaged\. Move them away"):
        resume_from_newest(tmp_path, state, on_damaged=lambda _: None)


def test_what_decides_the_weights_is_compared() -> None:
    changed = {"training": {"rate": 0.2, "crops": 80}, "crops": {"size_px": 16}, "name": "other"}
    assert changed_values(RECIPE, changed) == ["training.rate was 0.1, is 0.2"]
    assert changed_values(RECIPE, RECIPE) == []
    assert changed_values({}, changed) == []


def test_a_checkpoint_says_what_it_is(tmp_path: Path, state: TrainState, tiny: Architecture) -> None:
    save(tmp_path, state, recipe=RECIPE)
    details = load_state(tmp_path / "checkpoint-000000008")
    assert details["crops_seen"] == 8
    assert Architecture.from_json(details["architecture"]) == tiny
    assert details["sha256"].keys() == {"model", "ema", "optimiser"}
    assert "torch" in details["versions"]


def test_another_architecture_is_not_resumed(
    tmp_path: Path, state: TrainState, tiny: Architecture, make_settings: Callable[..., TrainSettings]
) -> None:
    save(tmp_path, state, recipe=RECIPE)
    other = new_state(dataclasses.replace(tiny, dim=16), make_settings())
    with pytest.raises(CheckpointError, match=r"checkpoint-000000008: .*\(dim 8 there, 16 in the recipe\)"):
        resume_from_newest(tmp_path, other, on_damaged=pytest.fail)


def test_the_backbone_has_the_averaged_weights(tmp_path: Path, state: TrainState, tiny: Architecture) -> None:
    save(tmp_path, state, recipe=RECIPE)
    unet, architecture, origin = load_backbone(tmp_path, tiny)
    assert architecture == tiny
    assert not unet.training
    torch.testing.assert_close(unet.state_dict(), state.ema.ema_model.state_dict(), rtol=0, atol=0)
    assert not torch.equal(unet.state_dict()["init_conv.weight"], state.unet.state_dict()["init_conv.weight"])
    assert origin == {"crops_seen": 8, "sha256": load_state(tmp_path / "checkpoint-000000008")["sha256"]["ema"]}


def test_a_backbone_of_any_architecture_can_be_taken(tmp_path: Path, state: TrainState, tiny: Architecture) -> None:
    save(tmp_path, state, recipe=RECIPE)
    assert load_backbone(tmp_path)[1] == tiny
    with pytest.raises(CheckpointError, match=r"a different architecture \(timesteps 10 there, 20 in the recipe\)"):
        load_backbone(tmp_path, dataclasses.replace(tiny, timesteps=20))


def test_no_backbone_yet(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint here\. Train one with `cytoseg train-ddpm`"):
        load_backbone(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"crops_seen": "8"}, r"no usable 'crops_seen' \(found '8'\)"),
        ({"crops_seen": -1}, r"no usable 'crops_seen' \(found '-1'\)"),
        ({"ema_step": 1.5}, r"no usable 'ema_step' \(found '1.5'\)"),
        ({"ema_step": None}, "no usable 'ema_step'"),
        ({"started_from": "x"}, r"no usable 'started_from' \(found 'x'\)"),
        ({"recipe": []}, r"no usable 'recipe' \(found '\[\]'\)"),
        ({"recipe": {"training": 3}}, "it has no recipe"),
    ],
)
def test_what_a_checkpoint_says_of_its_training_is_looked_at(
    wrong: dict[str, object], said: str, tmp_path: Path, state: TrainState
) -> None:
    path = save(tmp_path, state, recipe=RECIPE)
    content = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**content, **wrong}))
    with pytest.raises(DamagedError, match=rf"damaged, or of a different version \(.*{said}"):
        resume_from_newest(tmp_path, state, on_damaged=pytest.fail)


@pytest.mark.parametrize("count", ["64", -1, None, 1.5, 10**16])
def test_a_backbone_whose_count_is_not_one_is_refused(
    tmp_path: Path, state: TrainState, tiny: Architecture, count: object
) -> None:
    tensors = state.ema.ema_model.state_dict()
    save_checkpoint(tmp_path / "a", {"ema": tensors}, {"crops_seen": count, "architecture": dataclasses.asdict(tiny)})
    with pytest.raises(CheckpointError, match=r"state\.json: damaged.* no usable 'crops_seen'"):
        load_backbone(tmp_path / "a")
