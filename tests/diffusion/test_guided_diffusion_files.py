import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cytoseg.diffusion.adm import AdmShape, AdmUnet
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.diffusion.guided_diffusion_files import read_guided_diffusion
from cytoseg.errors import CheckpointError

SHAPES = [
    AdmShape(8, (1, 2, 2), 6, AdmSettings(attention=(2, 4))),
    AdmShape(16, (1, 1), 3, AdmSettings(attention=(1,), conditioning="add", resample_in_blocks=False, blocks=1)),
    AdmShape(8, (1, 1), 3, AdmSettings(attention=(4,))),  # between encoder and decoder only
    AdmShape(8, (1, 1), 3, AdmSettings(attention=())),
    AdmShape(8, (2, 3), 2, AdmSettings(blocks=3, attention=(2,)), in_channels=1),
]


def _saved(folder: Path, shape: AdmShape) -> tuple[Path, dict[str, Tensor]]:
    weights = AdmUnet(shape).state_dict()
    torch.save(weights, folder / "model.pt")
    return folder / "model.pt", weights


@pytest.mark.parametrize("shape", SHAPES)
def test_a_network_is_recognised_by_its_tensors(tmp_path: Path, shape: AdmShape) -> None:
    path, weights = _saved(tmp_path, shape)
    found = read_guided_diffusion(path)
    assert found.shape == shape
    torch.testing.assert_close(found.weights, weights)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    path, weights = _saved(tmp_path, SHAPES[0])
    torch.save({name: tensor.half() for name, tensor in weights.items()}, path)
    found = read_guided_diffusion(path).weights
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    torch.testing.assert_close(found, {name: tensor.half().float() for name, tensor in weights.items()})


def _without(weights: dict[str, Tensor]) -> str:
    del weights["middle_block.2.out_layers.3.bias"]
    return r"middle_block\.2\.out_layers\.3\.bias is missing\."


def _renamed(weights: dict[str, Tensor]) -> str:
    weights["middle_block.1.norms.weight"] = weights.pop("middle_block.1.norm.weight")
    return r"middle_block\.1\.norm\.weight is missing; 'middle_block\.1\.norms\.weight' is unexpected\."


def _reshaped(weights: dict[str, Tensor]) -> str:
    weights["input_blocks.1.0.in_layers.2.weight"] = torch.zeros(8, 8, 1, 1)
    return r"input_blocks\.1\.0\.in_layers\.2\.weight is \(8, 8, 1, 1\) instead of \(8, 8, 3, 3\)\."


def _without_its_time(weights: dict[str, Tensor]) -> str:
    del weights["time_embed.0.weight"]
    return r"time_embed\.0\.weight is missing\. It is not a network in guided-diffusion's layout"


def _of_classes(weights: dict[str, Tensor]) -> str:
    weights["label_emb.weight"] = torch.zeros(10, 32)
    return r"a class-conditional network \(label_emb\.weight\)"


def _not_finite(weights: dict[str, Tensor]) -> str:
    weights["out.2.bias"] = torch.full((6,), torch.nan)
    return "a weight is NaN or infinite"


def _of_whole_numbers(weights: dict[str, Tensor]) -> str:
    weights["out.2.bias"] = torch.zeros(6, dtype=torch.int64)
    return r"'out\.2\.bias' is not a tensor of floating-point numbers"


def _far_too_deep(weights: dict[str, Tensor]) -> str:
    weights["output_blocks.9999.0.in_layers.0.weight"] = torch.zeros(8)
    return "it has no output_blocks, or too many"


@pytest.mark.parametrize(
    "damage",
    [
        _without,
        _renamed,
        _reshaped,
        _without_its_time,
        _of_classes,
        _not_finite,
        _of_whole_numbers,
        _far_too_deep,
    ],
)
def test_other_tensors_are_refused_by_name(tmp_path: Path, damage: object) -> None:
    path, weights = _saved(tmp_path, SHAPES[0])
    sentence = damage(weights)  # type: ignore[operator]
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match=sentence):
        read_guided_diffusion(path)


class _Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("run",))


def test_code_in_a_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.pt").write_bytes(pickle.dumps({"out.2.bias": _Hostile()}))
    torch.save({"out.2.bias": _Hostile()}, tmp_path / "zipped.pt")
    for name in ("model.pt", "zipped.pt"):
        with pytest.raises(CheckpointError, match="not a plain file of tensors; nothing in it was run"):
            read_guided_diffusion(tmp_path / name)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"PK\x03\x04 and no more"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a plain file of tensors"):
        read_guided_diffusion(tmp_path / "model.pt")


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"holds 'list' instead of named tensors"):
        read_guided_diffusion(tmp_path / "model.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.pt: there is no such file"):
        read_guided_diffusion(tmp_path / "model.pt")


def test_a_file_over_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYTOSEG_MAX_WEIGHTS_MB", "1")
    with (tmp_path / "model.pt").open("wb") as file:
        file.truncate(3_000_000)
    with pytest.raises(CheckpointError, match=r"3 MB of weights\. If it is meant to be that large"):
        read_guided_diffusion(tmp_path / "model.pt")
