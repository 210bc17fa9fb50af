import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from cytoseg import writing
from cytoseg.errors import PredictionError
from cytoseg.locks import is_claimed
from cytoseg.writing import (
    atomic_path,
    changed_key_of_unfinished,
    clear_leftovers,
    remove_folder,
    replaced,
    restore_after_kill,
    resumable,
    temporary_beside,
    write_atomically,
)


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


def test_a_signal_while_the_temporary_folder_is_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slide").mkdir()

    def interrupted(prefix: str, dir: Path) -> None:
        (dir / f"{prefix}abcd1234").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(writing.tempfile, "TemporaryDirectory", interrupted)
    with pytest.raises(KeyboardInterrupt), replaced(tmp_path / "slide", error=PredictionError):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["slide"]


@pytest.mark.parametrize("write", [replaced, lambda folder, *, error: resumable(folder, {}, error=error)])
def test_a_folder_whose_run_is_taken_away_meanwhile_is_no_matter_of_space(write: Any, tmp_path: Path) -> None:
    wanted = r"slide: its folder was removed while this command was writing there\. Run the command again\.$"
    with pytest.raises(PredictionError, match=wanted), write(tmp_path / "run" / "slide", error=PredictionError):
        shutil.rmtree(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [replaced, lambda folder, *, error: resumable(folder, {}, error=error)])
def test_a_file_where_the_folder_goes_is_kept(write: Any, tmp_path: Path) -> None:
    (tmp_path / "slide").write_text("notes of mine")
    with (
        pytest.raises(PredictionError, match=r"slide: is a file, but a folder"),
        write(tmp_path / "slide", error=PredictionError),
    ):
        pytest.fail("it was not refused")
    assert (tmp_path / "slide").read_text() == "notes of mine"
    assert [path.name for path in tmp_path.iterdir()] == ["slide"]


def test_a_full_disk_is_a_prediction_error(tmp_path: Path) -> None:
    wanted = r"slide: cannot be written \(No space left on device\).*Free some space or choose another folder"
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
    assert changed_key_of_unfinished(folder, key) is None
    _interrupted(folder, {"bytes": 7, "predict": {"tile_px": 64, "glass": None}})
    assert changed_key_of_unfinished(folder, key) == other
    with resumable(folder, key, error=PredictionError) as part:
        assert (part / "first").exists() == (other is None)
    assert changed_key_of_unfinished(folder, {"bytes": 9}) is None  # it is finished


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
        pytest.raises(PredictionError, match=r"slide: cannot be written \(.*\); finished work is kept"),
        resumable(tmp_path / "file" / "slide", {}, error=PredictionError),
    ):
        pass


def _killed_between_the_renames(folder: Path) -> None:
    """Leave what a kill leaves there: the old folder aside, the new one whole, nothing under the name."""
    swap = folder.with_name(f".{folder.name}-abcd1234")
    (swap / "new").mkdir(parents=True)
    (swap / "new" / "seven").touch()
    folder.rename(swap / "old")


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "six").touch()
    _killed_between_the_renames(folder)
    return folder


def test_after_a_kill_between_the_renames_who_reads_puts_the_folder_back(killed: Path) -> None:
    restore_after_kill(killed)
    assert [path.name for path in killed.iterdir()] == ["six"]
    assert not (killed.parent / ".labels.lock").exists()
    restore_after_kill(killed.with_name("never"))
    assert not killed.with_name("never").exists()


def test_after_a_kill_between_the_renames_who_replaces_finds_the_folder(killed: Path) -> None:
    with replaced(killed, error=PredictionError) as new:
        assert [path.name for path in killed.iterdir()] == ["six"]
        (new / "eight").touch()
    assert [path.name for path in killed.parent.rglob("*")] == ["labels", "eight"]


def test_while_a_folder_is_replaced_no_other_process_restores_or_clears_it(killed: Path) -> None:
    with replaced(killed, error=PredictionError):
        swaps = list(killed.parent.glob(".labels-*"))
        clear_leftovers(killed)
        assert list(killed.parent.glob(".labels-*")) == swaps


def test_the_latest_of_several_folders_aside_comes_back(killed: Path) -> None:
    older = killed.parent / ".labels-00000000" / "old"
    older.mkdir(parents=True)
    os.utime(older, (1, 1))
    restore_after_kill(killed)
    assert [path.name for path in killed.iterdir()] == ["six"]
    assert older.exists()


def test_a_folder_with_a_longer_name_is_another(killed: Path) -> None:
    other = killed.with_name("labels-old")
    with replaced(other, error=PredictionError) as new:
        clear_leftovers(killed)
        (new / "a").touch()
    found = sorted(str(path.relative_to(killed.parent)) for path in killed.parent.rglob("*"))
    assert found == ["labels", "labels-old", "labels-old/a", "labels/six"]


def test_two_processes_do_not_replace_one_folder_at_once(tmp_path: Path) -> None:
    with (
        replaced(tmp_path / "slide", error=PredictionError),
        pytest.raises(PredictionError, match=r"slide: .+ \(process \d+ on .+\) is writing it"),
        replaced(tmp_path / "slide", error=PredictionError, wait_s=0.05),
    ):
        pass


@pytest.mark.posix
def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    elsewhere, link = tmp_path / "disk" / "labels", tmp_path / "run" / "labels"
    elsewhere.mkdir(parents=True)
    link.parent.mkdir()
    link.symlink_to(elsewhere)
    with replaced(link, error=PredictionError) as new:
        (new / "index.json").touch()
    with resumable(link, {}, error=PredictionError) as part:
        (part / "slide").touch()
    assert link.is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["slide"]
    assert list(elsewhere.parent.iterdir()) == [elsewhere]
    _killed_between_the_renames(elsewhere)
    restore_after_kill(link)
    assert [path.name for path in link.iterdir()] == ["slide"]


@pytest.mark.posix
def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("old")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "real.yaml")
    write_atomically(tmp_path / "link.yaml", "new")
    assert (tmp_path / "real.yaml").read_text() == "new"
    with atomic_path(tmp_path / "link.yaml") as temporary:
        temporary.write_text("newer")
    assert (tmp_path / "link.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text() == "newer"


def test_what_is_being_written_is_claimed(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.png") as temporary:
        temporary.write_text("half")
        assert is_claimed(temporary)
    with temporary_beside(tmp_path / "a.tif") as folder:
        assert is_claimed(folder)


def test_a_temporary_folder_takes_the_place_of_what_a_kill_left(tmp_path: Path) -> None:
    for name in (".a.tif.abcd1234", ".a.tif.keep", ".b.tif.abcd1234"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    with temporary_beside(tmp_path / "a.tif") as folder, temporary_beside(tmp_path / "a.tif") as other:
        assert list(folder.iterdir()) == list(other.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.tif.keep", ".b.tif.abcd1234"]


def test_a_removed_folder_goes_under_another_name_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkpoint-8"
    folder.mkdir()
    (folder / "model").touch()
    seen: list[bool] = []
    whole = shutil.rmtree

    def watched(path: Path, **options: Any) -> None:
        seen.append(folder.exists())
        whole(path, **options)

    monkeypatch.setattr(shutil, "rmtree", watched)
    remove_folder(folder)
    assert seen[-1] is False
    assert list(tmp_path.iterdir()) == []


@pytest.mark.posix
def test_a_link_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    remove_folder(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()


def test_a_swap_that_was_cut_at_its_end_is_finished(tmp_path: Path) -> None:
    folder, old = tmp_path / "slide", tmp_path / ".slide.old"
    for place, name in ((folder, "new"), (folder, "key.json"), (old, "older")):
        place.mkdir(exist_ok=True)
        (place / name).touch()
    clear_leftovers(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["slide", "new"]


FOREIGN = r"slide: holds other files, such as .notes\.txt., which would be deleted\. Choose another folder"


@pytest.mark.parametrize("write", [replaced, lambda folder, **given: resumable(folder, {}, **given)])
def test_a_folder_of_other_files_is_not_replaced(write: Any, tmp_path: Path) -> None:
    folder = tmp_path / "slide"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(PredictionError, match=FOREIGN), write(folder, error=PredictionError, ours=("state.json",)):
        pytest.fail("it was not refused")
    assert (folder / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["slide"]


@pytest.mark.parametrize("there", [(), (".DS_Store", "Thumbs.db"), ("a.json", "notes.txt"), ("c.bin",)])
@pytest.mark.parametrize("write", [replaced, lambda folder, **given: resumable(folder, {}, **given)])
def test_an_empty_folder_or_one_of_ours_is_replaced(there: tuple[str, ...], write: Any, tmp_path: Path) -> None:
    folder = tmp_path / "slide"
    folder.mkdir()
    for name in there:
        (folder / name).touch()
    with write(folder, error=PredictionError, ours=("a.json", "*.bin")) as new:
        (new / "a.json").write_text("2")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("a.json", "2")]


@pytest.mark.posix
def test_a_symlink_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "slide").symlink_to(tmp_path / "slide")
    with (
        pytest.raises(PredictionError, match=r"slide: cannot be written"),
        replaced(tmp_path / "slide", error=PredictionError) as new,
    ):
        (new / "a").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["slide"]


def test_a_full_disk_while_a_folder_is_copied_gives_a_short_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_from: str, to: str, **_options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", to)

    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").touch()
    monkeypatch.setattr(shutil, "copy2", no_space)
    wanted = r"slide: cannot be written \(No space left on device\); the previous content"
    with pytest.raises(PredictionError, match=wanted), replaced(tmp_path / "slide", error=PredictionError) as new:
        shutil.copytree(tmp_path / "old", new, dirs_exist_ok=True, copy_function=no_space)
