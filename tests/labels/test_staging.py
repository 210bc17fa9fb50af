import errno
import os
from pathlib import Path

import pytest

from cytoseg.errors import LabelError
from cytoseg.labels.staging import staged


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "labels"
    (folder / "maps").mkdir(parents=True)
    (folder / "maps" / "a.txt").write_text("old")
    return folder


def assert_as_before(folder: Path) -> None:
    assert [p.name for p in folder.parent.iterdir()] == ["labels"]
    assert (folder / "maps" / "a.txt").read_text() == "old"


def test_the_changed_copy_takes_the_place(folder: Path) -> None:
    with staged(folder) as new:
        (new / "maps" / "a.txt").write_text("new")
        (new / "b.txt").write_text("more")
        assert (folder / "maps" / "a.txt").read_text() == "old"
    assert (folder / "maps" / "a.txt").read_text() == "new"
    assert (folder / "b.txt").read_text() == "more"
    assert [p.name for p in folder.parent.iterdir()] == ["labels"]


def test_a_new_folder_is_readable_by_others(tmp_path: Path) -> None:
    with staged(tmp_path / "deep" / "labels"):
        pass
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "deep" / "labels").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, LabelError, ValueError])
def test_after_any_error_the_folder_is_as_before(folder: Path, error: type[BaseException]) -> None:
    def broken_off() -> None:
        with staged(folder) as new:
            (new / "maps" / "a.txt").write_text("new")
            raise error

    with pytest.raises(error):
        broken_off()
    assert_as_before(folder)


def test_a_full_disk_is_reported_and_leaves_the_folder(folder: Path) -> None:
    with (
        pytest.raises(LabelError, match=r"labels: cannot be written \(No space left on device\); the previous content"),
        staged(folder),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert_as_before(folder)


def test_an_interrupted_swap_is_taken_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, calls = os.replace, []

    def interrupted(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), staged(folder) as new:
        (new / "maps" / "a.txt").write_text("new")
    assert len(calls) == 3
    assert_as_before(folder)
