import errno
import gc
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cytoseg.errors import RecipeError
from cytoseg.features import pixel_rows
from cytoseg.features.pixel_rows import DiskRows, MemoryLimits, make_rows, row_blocks

GB = 1_000_000_000


def _numbered(count: int, columns: int) -> Tensor:
    """Row r holds 10 r, 10 r + 1, ...: any row can be told from any other."""
    return (10 * torch.arange(count)[:, None] + torch.arange(columns)).half()


@pytest.fixture
def on_disk(tmp_path: Path) -> DiskRows:
    """Seven rows of three, written in two parts, the last ones first."""
    found = DiskRows(tmp_path / "new" / "folder", 7, 3)
    found[4:7] = _numbered(7, 3)[4:]
    found[0:4] = _numbered(7, 3)[:4]
    return found


@pytest.mark.parametrize("index", [[3], [6, 0, 0, 2], [], [[1, 2, 3], [6, 5, 4]]])
def test_rows_come_back_as_from_a_tensor(on_disk: DiskRows, index: list[Any]) -> None:
    numbers = torch.tensor(index, dtype=torch.int64)
    assert torch.equal(on_disk[numbers], _numbered(7, 3)[numbers])
    assert on_disk[numbers].dtype == torch.float16
    assert (on_disk.shape, len(on_disk)) == ((7, 3), 7)


def test_a_row_that_is_not_there_is_refused(on_disk: DiskRows) -> None:
    with pytest.raises(IndexError, match="row 7 of 7"):
        on_disk[torch.tensor([0, 7])]


@pytest.mark.posix
def test_the_file_has_no_name_and_goes_with_the_object(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    found = DiskRows(tmp_path, 100, 5)
    assert list(tmp_path.iterdir()) == []
    del found
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before if before else True


def test_no_rows_take_no_room(tmp_path: Path) -> None:
    found = DiskRows(tmp_path, 0, 5)
    assert found[torch.empty(0, dtype=torch.int64)].shape == (0, 5)
    assert list(row_blocks(found)) == []


def test_blocks_are_the_same_wherever_the_rows_lie(on_disk: DiskRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_rows, "BLOCK_ROWS", 3)
    blocks = list(row_blocks(on_disk))
    assert [len(block) for block in blocks] == [3, 3, 1]
    assert torch.equal(torch.cat(blocks), _numbered(7, 3))
    assert all(map(torch.equal, blocks, row_blocks(_numbered(7, 3))))
    monkeypatch.setattr(pixel_rows, "BLOCK_VALUES", 6)
    assert [len(block) for block in row_blocks(on_disk)] == [2, 2, 2, 1]


def test_a_full_disk_is_reported_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int, _offset: int, length: int) -> None:
        assert length == 2 * 1_000_000 * 700
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        RecipeError,
        match=r"features of 1,000,000 pixels need 1\.4 GB on this disk \(No space left on device\)\. Free",
    ):
        DiskRows(tmp_path, 1_000_000, 700)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_later_is_reported_as_well(on_disk: DiskRows, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short:
        def seek(self, _place: int) -> None: ...

        def write(self, data: memoryview) -> int:
            return data.nbytes - 1

    monkeypatch.setattr(on_disk, "_file", Short())
    with pytest.raises(RecipeError, match=r"features of 7 pixels need 0\.0 GB on this disk \(No space left on device"):
        on_disk[0:7] = _numbered(7, 3)


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match=r"file/in: the features of 3 pixels need .* \(Not a directory\)"):
        DiskRows(tmp_path / "file" / "in", 3, 3)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make 1000 rows of 500,000, 1 GB, where a process holds 2 GB after a peak of 3; training takes the rest."""

    def make(
        ceiling_gb: float | None, *, training: int = 0, free: int | None = None, passing: int = 0, spare: float = 1.0
    ) -> bool:
        """Say whether the rows are in memory; they are empty, so that neither memory nor disk is touched."""
        monkeypatch.setattr(pixel_rows, "highest_bytes", lambda: 3 * GB)
        monkeypatch.setattr(pixel_rows, "resident_bytes", lambda: 2 * GB)
        monkeypatch.setattr(pixel_rows, "available_bytes", lambda: free)
        monkeypatch.setattr(pixel_rows, "SPARE", spare)
        monkeypatch.setattr(pixel_rows, "DiskRows", lambda *_arguments: "disk")
        room = MemoryLimits(
            tmp_path, ceiling_gb, lambda count, columns: training * (count == 1000 and columns == 500_000)
        )
        found = make_rows(1000, 500_000, room, largest="30 x 20 px", passing=passing)
        return found != "disk"

    return make


@pytest.mark.parametrize(
    ("free", "in_memory"), [(2 * GB, True), (2 * GB - 2, False), (None, False)], ids=["half", "less", "unknown"]
)
def test_without_a_ceiling_rows_take_half_of_what_is_free(made: Any, free: int | None, *, in_memory: bool) -> None:
    assert made(None, free=free) == in_memory


@pytest.mark.parametrize(
    ("ceiling_gb", "training", "passing", "in_memory"),
    [
        (4.0, 0, 0, True),  # the peak of the crop and the rows
        (3.99, 0, 0, False),
        (3.0, GB, 0, False),
        (7.0, 4 * GB, 0, True),  # what is held, the training and the rows
        (6.99, 4 * GB, 0, False),
        (6.0, 4 * GB, GB, True),  # less the features of the crop, which will have gone
    ],
)
def test_rows_go_to_disk_where_the_ceiling_is_too_low_for_them(
    made: Any, ceiling_gb: float, training: int, passing: int, *, in_memory: bool
) -> None:
    assert made(ceiling_gb, training=training, passing=passing) == in_memory


@pytest.mark.parametrize(("ceiling_gb", "training", "need"), [(2.9, 0, "3"), (0.5, 0, "3"), (3, 2_310_000_000, "4.4")])
def test_a_ceiling_too_low_for_one_crop_or_the_training_names_the_least(
    made: Any, ceiling_gb: float, training: int, need: str
) -> None:
    with pytest.raises(
        RecipeError,
        match=rf"^features\.memory_gb: {ceiling_gb} is too little: the largest crop \(30 x 20 px\) and the "
        rf"interpreters need {need}\. Use features.memory_gb={need}, or fewer taps, timesteps or members\.$",
    ):
        made(ceiling_gb, training=training)


def test_what_is_asked_for_has_room_for_a_little_more(made: Any) -> None:
    with pytest.raises(RecipeError, match=r"interpreters need 3\.6\. Use features\.memory_gb=3\.6,"):
        made(2.9, spare=1.09)  # 3 GB and a spare make 3.27


def test_a_system_that_does_not_tell_its_memory_has_no_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_rows, "resident_bytes", lambda: None)
    with pytest.raises(
        RecipeError, match=r"^features\.memory_gb: this system does not report .* Remove the setting\.$"
    ):
        make_rows(1, 1, MemoryLimits(ceiling_gb=4.0), largest="30 x 20 px", passing=0)
