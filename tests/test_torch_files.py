import os
import zipfile
from pathlib import Path

import pytest
import torch

from cytoseg import torch_files
from cytoseg.errors import CheckpointError
from cytoseg.torch_files import read_torch_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pt"


def test_tensors_are_read(path: Path) -> None:
    torch.save({"a": torch.ones(3)}, path)
    found = read_torch_file(path, advice="")
    assert isinstance(found, dict)
    torch.testing.assert_close(found["a"], torch.ones(3))


def test_a_tensor_that_repeats_one_value_counts_by_its_shape(path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path)
    assert path.stat().st_size < 2000
    with pytest.raises(CheckpointError, match=r"model\.pt: 4,000,000 MB of weights\. "):
        read_torch_file(path, advice="")


def test_a_tensor_without_values_is_refused(path: Path) -> None:
    torch.save({"a": torch.empty(3, device="meta")}, path)
    with pytest.raises(CheckpointError, match=r"model\.pt: holds tensors without values\. Again\."):
        read_torch_file(path, advice="Again.")


@pytest.mark.parametrize("member", ["data.pkl", "data/0"])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(
    path: Path, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    monkeypatch.setenv("CYTOSEG_MAX_WEIGHTS_MB", "2")
    torch.save({"a": torch.zeros(3)}, path.with_name("small.pt"))
    with zipfile.ZipFile(path.with_name("small.pt")) as small, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in small.namelist():
            bomb.writestr(name, bytes(3_000_000) if name.endswith(f"/{member}") else small.read(name))
    assert path.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match=r"model\.pt: 3 MB of weights\. "):
        read_torch_file(path, advice="")


@pytest.mark.posix
def test_what_is_no_file_or_no_weights_is_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.pt: there is no such file\. Again\."):
        read_torch_file(path, advice="Again.")
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match=r"model\.pt: there is no such file\. Again\."):
        read_torch_file(path, advice="Again.")
    path.unlink()
    path.write_text("nonsense")
    with pytest.raises(CheckpointError, match=r"not a plain file of tensors; nothing in it was run \(\w+\)\. Again\."):
        read_torch_file(path, advice="Again.")


@pytest.mark.parametrize("kind", ["zip", "zip with a name in capitals", "pickle", "pickle before a zip"])
def test_a_file_of_many_marks_is_refused_at_once(path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each opens a list in a list; torch would follow all of them in Python."""
    small = path.with_name("small.pt")
    torch.save({"a": torch.ones(3)}, small)
    marks = b"\x80\x02" + b"(" * 1_100_000 + b"."
    if kind.startswith("zip"):
        with zipfile.ZipFile(small) as archive, zipfile.ZipFile(path, "w") as many:
            for name in archive.namelist():
                found = marks if name.endswith("data.pkl") else archive.read(name)
                many.writestr(name.replace("data.pkl", "DATA.PKL") if "capitals" in kind else name, found)
    else:
        path.write_bytes(marks + small.read_bytes() * kind.endswith("zip"))
    monkeypatch.setattr(torch_files, "_MAX_READS", 20_000)
    with pytest.raises(CheckpointError, match=r"model\.pt: lists more values than are read, some 8,000 tensors\. Save"):
        read_torch_file(path, advice="")


def test_a_file_of_an_early_torch_is_read(path: Path) -> None:
    wanted = {f"layer{i}.weight": torch.full((3, 2), float(i)) for i in range(200)}
    torch.save(wanted, path, _use_new_zipfile_serialization=False)
    found = read_torch_file(path, advice="")
    assert isinstance(found, dict)
    torch.testing.assert_close(found, wanted)
