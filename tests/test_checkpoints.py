import errno
import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from cytoseg import checkpoints
from cytoseg.checkpoints import (
    find_checkpoints,
    load_checkpoint,
    load_optimiser,
    load_state,
    network_with,
    optimiser_tensors,
    save_checkpoint,
)
from cytoseg.errors import CheckpointError
from cytoseg.interrupts import end_signals_as_ctrl_c

TENSORS: dict[str, dict[str, Tensor]] = {
    "model": {"weight": torch.arange(6.0).reshape(2, 3), "half": torch.tensor([0.5, -2.0], dtype=torch.bfloat16)},
    "optimiser": {"0.step": torch.tensor(7.0)},
}


def _saved(folder: Path, crops_seen: int = 8) -> Path:
    save_checkpoint(folder, TENSORS, {"crops_seen": crops_seen})
    return folder


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(_saved(tmp_path / "runs" / "checkpoint-8"))
    assert checkpoint.tensors.keys() == TENSORS.keys()
    for group, named in TENSORS.items():
        for name, tensor in named.items():
            torch.testing.assert_close(checkpoint.tensors[group][name], tensor, rtol=0, atol=0)
    assert checkpoint.state["crops_seen"] == 8
    assert checkpoint.state["format"] == 1


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, read, others = _saved(tmp_path / "c"), checkpoints._load_group, iter((1, 2, 3))
    other = {name: {key: 2 * tensor for key, tensor in named.items()} for name, named in TENSORS.items()}

    def load_group(*given: Any) -> dict[str, Tensor]:
        if (number := next(others, None)) is not None and number <= times:
            save_checkpoint(folder, {**other, "model": {"weight": torch.full((2,), float(number))}}, {"crops_seen": 16})
        return read(*given)

    monkeypatch.setattr(checkpoints, "_load_group", load_group)
    times = 1
    found = load_checkpoint(folder)
    assert (found.state["crops_seen"], found.tensors["model"]["weight"].tolist()) == (16, [1.0, 1.0])
    others, times = iter((4, 5, 6)), 9
    with pytest.raises(CheckpointError, match=r"c: other commands are replacing it\. Run this command again"):
        load_checkpoint(folder)


def test_views_and_gradients_are_saved_as_plain_values(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path / "c", {"m": {"turned": whole.T, "learnt": whole.requires_grad_()}}, {})
    tensors = load_checkpoint(tmp_path / "c").tensors["m"]
    torch.testing.assert_close(tensors["turned"], torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]))
    assert not tensors["learnt"].requires_grad


def test_saving_again_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    _saved(tmp_path / "c", 8)
    _saved(tmp_path / "c", 16)
    assert load_state(tmp_path / "c")["crops_seen"] == 16
    assert list(tmp_path.iterdir()) == [tmp_path / "c"]


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _saved(tmp_path / "c")

    def full(*_args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CheckpointError, match=r"c: cannot be written \(No space left on device\); the previous"):
        _saved(tmp_path / "c", 16)
    assert load_checkpoint(tmp_path / "c").state["crops_seen"] == 8
    assert list(tmp_path.iterdir()) == [tmp_path / "c"]


def test_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"there is no checkpoint here \(state.json is missing\)\. Use an older .*: move this one away",
    ):
        load_state(tmp_path)


@pytest.mark.parametrize("content", [b'{"format": 1, "sha2', b"\xff\xfe\x00"])
def test_a_damaged_state_is_refused(tmp_path: Path, content: bytes) -> None:
    (_saved(tmp_path / "c") / "state.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.json: damaged \(.*\)\. Use an older checkpoint"):
        load_checkpoint(tmp_path / "c")


@pytest.mark.parametrize(("content", "found"), [({"format": 2}, "2"), ({}, "None"), ([1], "list")])
def test_another_format_is_refused(tmp_path: Path, content: Any, found: str) -> None:
    (_saved(tmp_path / "c") / "state.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=rf"format {found}; this version reads format 1\. Update cytoseg"):
        load_state(tmp_path / "c")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    (_saved(tmp_path / "c") / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: missing"):
        load_checkpoint(tmp_path / "c")


def test_one_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = _saved(tmp_path / "c") / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged \(its content does not match its hash\)"):
        load_checkpoint(tmp_path / "c")


def test_checkpoints_are_found_by_number_newest_first(tmp_path: Path) -> None:
    for name in ("checkpoint-000000900", "checkpoint-1000", "checkpoint-best", ".9.checkpoint-5.part", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    assert [p.name for p in find_checkpoints(tmp_path)] == ["checkpoint-1000", "checkpoint-000000900"]
    assert find_checkpoints(tmp_path / "missing") == []


@pytest.mark.posix
@pytest.mark.parametrize("group", ["../model", "/etc/model", "a/model", "link"])
def test_weights_outside_the_folder_are_not_opened(tmp_path: Path, group: str) -> None:
    folder = _saved(tmp_path / "c")
    data = (folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data)
    (folder / "link.safetensors").symlink_to(tmp_path / "model.safetensors")
    state = json.loads((folder / "state.json").read_text())
    state["sha256"] = {group: hashlib.sha256(data).hexdigest()}
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match=r"damaged \(names weights outside its folder, '.*'\)"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "data",
    [b"", b"nonsense", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]", b'\x10\0\0\0\0\0\0\0{"a":{"dtype":3}'],
)
def test_nonsense_with_the_right_hash_is_refused(tmp_path: Path, data: bytes) -> None:
    folder = _saved(tmp_path / "c")
    (folder / "model.safetensors").write_bytes(data)
    state = json.loads((folder / "state.json").read_text())
    state["sha256"] = {"model": hashlib.sha256(data).hexdigest()}
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged \(.*\)\. Use an older checkpoint"):
        load_checkpoint(folder)


def test_weights_larger_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _saved(tmp_path / "c")
    with (folder / "model.safetensors").open("ab") as file:
        file.truncate(2_000_000)
    monkeypatch.setenv("CYTOSEG_MAX_WEIGHTS_MB", "1")
    with pytest.raises(CheckpointError, match=r"is 2\.0 MB long\. .* CYTOSEG_MAX_WEIGHTS_MB to more than 1"):
        load_checkpoint(folder)


def test_a_signal_while_weights_are_read_does_not_call_them_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever skips damaged checkpoints would go on with an older one."""

    def interrupted(_data: bytes) -> dict[str, Tensor]:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise RuntimeError("trying to pop from empty mode stack")

    save_checkpoint(tmp_path / "saved", {"ema": {"a": torch.ones(2)}}, {})
    monkeypatch.setattr(safetensors.torch, "load", interrupted)
    with pytest.raises(KeyboardInterrupt), end_signals_as_ctrl_c():
        load_checkpoint(tmp_path / "saved")


def test_a_network_takes_the_weights_in_its_own_precision_and_shares_none_of_them() -> None:
    given = {"0.weight": torch.tensor([[0.5, -2.0]]).half(), "0.bias": torch.ones(1).half()}
    given |= {f"1.{name}": tensor.double() + 3 for name, tensor in nn.BatchNorm1d(1).state_dict().items()}
    given["1.num_batches_tracked"] = torch.tensor(7)
    network = network_with(lambda: nn.Sequential(nn.Linear(2, 1).requires_grad_(False), nn.BatchNorm1d(1)), given)
    found = network.state_dict()
    assert {name: tensor.dtype for name, tensor in found.items() if tensor.dtype != torch.float32} == {
        "1.num_batches_tracked": torch.int64
    }
    torch.testing.assert_close(found, given, check_dtype=False)
    assert [weights.requires_grad for weights in network.parameters()] == [False, False, True, True]
    for tensor in found.values():
        tensor.zero_()
    assert all(bool((tensor != 0).all()) for tensor in given.values())


def _trained() -> torch.optim.Optimizer:
    weights = torch.ones(2, 3, requires_grad=True)
    optimiser = torch.optim.Adam([weights])
    weights.grad = torch.ones_like(weights)
    optimiser.step()
    return optimiser


def test_the_state_of_an_optimiser_is_restored() -> None:
    saved = {name: tensor + 1 for name, tensor in optimiser_tensors(_trained()).items()}
    optimiser = _trained()
    load_optimiser(saved, optimiser)
    torch.testing.assert_close(optimiser_tensors(optimiser), saved, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"0.exp_avg": torch.zeros(3)}, r"^the optimiser's '0\.exp_avg' has the wrong shape$"),
        ({"0.step": torch.ones(2)}, r"^the optimiser's '0\.step' has the wrong shape$"),
        ({"0.step": torch.tensor(-1.0)}, r"^the optimiser's state is not that of Adam$"),
        ({"0.step": torch.tensor(float("nan"))}, r"^the optimiser's state is not that of Adam$"),
        ({"0.other": torch.ones(2, 3)}, r"^the optimiser's state is not that of Adam$"),
        ({"1.exp_avg": torch.ones(2, 3)}, "^list index out of range$"),
        ({"exp_avg": torch.ones(2, 3)}, "^not enough values to unpack"),
    ],
)
def test_a_state_with_which_the_next_step_would_fail_is_refused(changed: dict[str, Tensor], error: str) -> None:
    saved, optimiser = optimiser_tensors(_trained()), _trained()
    with pytest.raises((ValueError, LookupError), match=error):
        load_optimiser(saved | changed, optimiser)
    torch.testing.assert_close(optimiser_tensors(optimiser), saved, rtol=0, atol=0)


def test_a_state_of_an_optimiser_that_lacks_a_part_is_refused() -> None:
    saved = optimiser_tensors(_trained())
    del saved["0.exp_avg_sq"]
    with pytest.raises(ValueError, match="not that of Adam"):
        load_optimiser(saved, _trained())
