import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from cytoseg.errors import PredictionError
from cytoseg.writing import atomic_path, begun_with_another, replaced, resumable, write_atomically


def _fail(*_args: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_is_written_whole_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_atomically(path, "nucleus µm")
    assert path.read_bytes() == "nucleus µm".encode()
    write_atomically(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.txt"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "replace", _fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_keeps_the_suffix_and_renames_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "map.ome.tif"
    with atomic_path(path) as temporary:
        temporary.write_text("pixels")
        assert temporary.name.endswith(".ome.tif")
        assert not path.exists()
    assert path.read_text() == "pixels"
    assert list(path.parent.iterdir()) == [path]


def _half_write(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_atomic_path_leaves_nothing_half_written(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _half_write(tmp_path / "map.png")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "slide"
    for text in ("first", "second"):
        with replaced(folder, error=PredictionError) as part:
            assert list(part.iterdir()) == []
            (part / text).write_text(text)
        assert [p.name for p in folder.iterdir()] == [text]
    assert list(folder.parent.iterdir()) == [folder]


def test_an_interrupt_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "slide"
    folder.mkdir()
    (folder / "old").touch()

    def interrupted() -> None:
        with replaced(folder, error=PredictionError) as part:
            (part / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [p.name for p in tmp_path.rglob("*")] == ["slide", "old"]


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "slide"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(PredictionError, match="No such file"), replaced(folder, error=PredictionError) as part:
        part.rmdir()
    assert [p.name for p in tmp_path.rglob("*")] == ["slide", "old"]


def test_a_full_disk_is_a_prediction_error(tmp_path: Path) -> None:
    wanted = r"slide: cannot be written \(No space left on device\).*Make room or choose another folder"
    with pytest.raises(PredictionError, match=wanted), replaced(tmp_path / "slide", error=PredictionError):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_folder_is_a_prediction_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(PredictionError, match="cannot be written"),
        replaced(tmp_path / "file" / "slide", error=PredictionError),
    ):
        pass


def _interrupted(folder: Path, key: dict[str, Any]) -> None:
    with contextlib.suppress(KeyboardInterrupt), resumable(folder, key, error=PredictionError) as part:
        (part / "first").write_text("1")
        raise KeyboardInterrupt


def test_a_resumable_folder_keeps_what_is_in_it_until_it_is_whole(tmp_path: Path) -> None:
    folder, key = tmp_path / "results" / "slide", {"bundle": "abc", "sizes": (1, 2)}
    _interrupted(folder, key)
    assert not folder.exists()
    with resumable(folder, key, error=PredictionError) as part:
        assert (part / "first").read_text() == "1"
        (part / "second").write_text("2")
    assert sorted(path.name for path in folder.iterdir()) == ["first", "second"]
    assert [path.name for path in folder.parent.iterdir()] == ["slide"]


def test_a_resumable_folder_in_which_nothing_was_put_does_not_stay(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), resumable(tmp_path / "slide", {}, error=PredictionError):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_resumable_folder_is_empty_for_another_key(tmp_path: Path) -> None:
    folder = tmp_path / "slide"
    _interrupted(folder, {"bundle": "abc"})
    with resumable(folder, {"bundle": "abd"}, error=PredictionError) as part:
        assert [path.name for path in part.iterdir()] == ["key.json"]
        (part / "other").write_text("1")
    assert [path.name for path in folder.iterdir()] == ["other"]


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ({"bytes": 7, "predict": {"tile_px": 64, "glass": None}}, None),
        ({"bytes": 7, "predict": {"glass": None, "tile_px": 32}}, "predict.tile_px"),
        ({"bytes": 8, "predict": {"tile_px": 32, "glass": None}}, "bytes"),  # the first
        ({"bytes": 7, "predict": {"tile_px": 64}}, "predict.glass"),
        ({"bytes": 7, "predict": None}, "predict"),
        ({"bytes": 7, "mpp": 0.5, "predict": {"tile_px": 64, "glass": None}}, "mpp"),
    ],
)
def test_what_differs_from_what_was_begun_is_named(tmp_path: Path, key: dict[str, Any], other: str | None) -> None:
    folder = tmp_path / "slide"
    assert begun_with_another(folder, key) is None
    _interrupted(folder, {"bytes": 7, "predict": {"tile_px": 64, "glass": None}})
    assert begun_with_another(folder, key) == other
    with resumable(folder, key, error=PredictionError) as part:
        assert (part / "first").exists() == (other is None)
    assert begun_with_another(folder, {"bytes": 9}) is None  # it is finished


def test_a_resumable_folder_replaces_the_old_one_after_a_kill_between_the_renames(tmp_path: Path) -> None:
    folder = tmp_path / "slide"
    with resumable(folder, {}, error=PredictionError) as part:
        (part / "new").write_text("1")
        (tmp_path / ".slide.old").mkdir()
        (tmp_path / ".slide.old" / "older").touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    with resumable(folder, {}, error=PredictionError) as part:
        (part / "newer").write_text("1")
    assert [path.name for path in folder.iterdir()] == ["newer"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_resumable_folder_says_when_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(PredictionError, match=r"slide: cannot be written \(.*\); what is finished is kept"),
        resumable(tmp_path / "file" / "slide", {}, error=PredictionError),
    ):
        pass
