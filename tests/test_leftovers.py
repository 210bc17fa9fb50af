import os
import time
from pathlib import Path

import pytest

from cytoseg import running
from cytoseg.errors import LabelError
from cytoseg.leftovers import sweep, sweep_beside, sweep_files
from cytoseg.locks import claim, claimed_folder, locked
from cytoseg.writing import replaced

DEAD = 2**22 + 1
"""No process has this number: it is above Linux's highest."""
LEFT = (
    ".recipe.yaml.ab12cd_9",
    ".run.json.zzzzzzzz",
    "ddpm/.metrics.jsonl.0a0a0a0a",
    f"ddpm/.{DEAD}.loss.png",
    "labels/.index.json.abcdefgh",
    "compare/runs/.forest-0.json.abcdefgh",
    "samples/ddpm-3/.sample_00001.png.abcdefgh",
    f"made/maps/.{DEAD}.00001.png",
    "predictions/slide/.sign_off.json.abcdefgh",
    "review/corrections/crop/.anna.json.abcdefgh",
)
KEPT = (
    "recipe.yaml",
    "ddpm/loss.png",
    ".git",
    ".recipe.yaml.swp",
    ".notes",
    ".recipe.yaml.ABCDEFGH",
    "predictions/.slide.part/ids.raw",
    "ddpm/.cache-settings/file",  # not what a swap makes
    "a/b/c/d/.deep.json.abcdefgh",  # no command writes as deep
    "ddpm/.other.lock",  # another program's
)


def _age(path: Path) -> None:
    past = time.time() - 5
    os.utime(path, (past, past))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with leftovers and with what only looks like them, all some seconds old."""
    for name in (*LEFT, *KEPT):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        _age(path)
    return tmp_path / "run"


def _files(run: Path) -> set[str]:
    return {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}


def test_what_killed_commands_left_goes_and_nothing_else(run: Path) -> None:
    sweep(run)
    assert _files(run) == set(KEPT)


def test_what_a_live_process_writes_stays(run: Path) -> None:
    claimed, young = run / ".run.json.zzzzzzzz", run / ".recipe.yaml.ab12cd_9"
    own = run / "ddpm" / f".{os.getpid()}.samples.png"
    own.write_text("half")
    _age(own)
    with claimed.open("ab") as file:
        claim(file.fileno())
        os.utime(young)
        sweep(run)
    assert _files(run) == {*KEPT, ".run.json.zzzzzzzz", ".recipe.yaml.ab12cd_9", f"ddpm/.{os.getpid()}.samples.png"}


@pytest.mark.parametrize("aside", [".labels-abcd1234/old", ".labels.old"])
def test_a_folder_that_a_kill_left_aside_comes_back(aside: str, tmp_path: Path) -> None:
    (tmp_path / aside).mkdir(parents=True)
    (tmp_path / aside / "index.json").write_text("six crops")
    sweep(tmp_path)
    assert _files(tmp_path) == {"labels/index.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


@pytest.mark.parametrize("name", [".unfinished-abcd1234", ".bundle-abcd1234", ".evaluation-abcd1234"])
def test_half_a_folder_goes_and_the_whole_one_stays(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "interpreter"
    (folder / name / "new").mkdir(parents=True)
    (folder / name / "new" / "half").touch()
    whole = folder / name[1:].partition("-")[0]
    whole.mkdir()
    (whole / "state.json").touch()
    sweep(tmp_path)
    assert _files(tmp_path) == {f"interpreter/{whole.name}/state.json"}
    assert list(folder.iterdir()) == [whole]


def test_of_a_folder_that_a_user_chose_only_half_written_files_go(run: Path) -> None:
    (run / ".old.removed").mkdir()
    sweep_files(run)
    assert _files(run) == {*KEPT, *(name for name in LEFT if "/" in name)}
    assert (run / ".old.removed").exists()


def test_only_what_is_left_of_one_file_goes(run: Path) -> None:
    for name in (f".{DEAD}.recipe.yaml", ".recipe.yaml.lock"):
        (run / name).touch()
    _age(run / f".{DEAD}.recipe.yaml")
    sweep_files(run, of="recipe.yaml")
    assert _files(run) == {*KEPT, *LEFT} - {".recipe.yaml.ab12cd_9"}


def test_a_folder_that_is_being_replaced_stays(tmp_path: Path) -> None:
    with replaced(tmp_path / "labels", error=LabelError) as new:
        (new / "index.json").write_text("1")
        sweep(tmp_path)
        assert (new / "index.json").exists()
    assert _files(tmp_path) == {"labels/index.json"}


def test_a_half_removed_folder_and_a_half_written_slide_go(tmp_path: Path) -> None:
    for name in (".checkpoint-000000008.removed", ".made.ome.tif.abcd1234"):
        (tmp_path / "ddpm" / name).mkdir(parents=True)
        (tmp_path / "ddpm" / name / "file").touch()
        _age(tmp_path / "ddpm" / name)
    sweep(tmp_path)
    assert list((tmp_path / "ddpm").iterdir()) == []


@pytest.mark.parametrize("content", ["", "cytoseg label-import (process 4194305 on here, since long ago UTC)\n"])
def test_a_released_lock_is_removed_and_a_held_one_stays(content: str, tmp_path: Path) -> None:
    (tmp_path / ".labels.lock").write_text(content)
    with locked(tmp_path / "run.json", wait_s=0, error=LabelError):
        sweep(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [".run.json.lock"]


@pytest.mark.posix
def test_links_stay_and_what_they_lead_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    run = tmp_path / "run"
    run.mkdir()
    names = {".labels.removed", ".run.json.abcdefgh", ".labels-abcd1234"}
    for name in names:
        (run / name).symlink_to(elsewhere)
    sweep(run)
    assert {path.name for path in run.iterdir() if path.readlink() == elsewhere} == names
    assert [path.name for path in elsewhere.iterdir()] == ["file"]


def test_a_run_that_is_not_there_has_nothing_to_sweep(tmp_path: Path) -> None:
    sweep(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [PermissionError, None])
def test_a_process_of_another_account_lives(
    error: type[OSError] | None, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_process: int, _signal: int) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(running.os, "kill", answer)
    sweep(run)
    assert (run / "ddpm" / f".{DEAD}.loss.png").exists()


def test_a_number_too_large_for_a_process_is_none(tmp_path: Path) -> None:
    left = tmp_path / f".{10**30}.loss.png"
    left.touch()
    _age(left)
    sweep(tmp_path)
    assert not left.exists()


def test_what_a_kill_left_beside_an_output_is_removed(tmp_path: Path) -> None:
    left = ("a.ome.tif.ab12cd_9/part", "a.ome.tif.zzzzzzzz", "a.ome.tif-abcdefgh/new/x")
    kept = (
        "a.ome.tif.part/ids.raw",
        "b.ome.tif.abcdefgh",
        "a.ome.tif.ABCDEFGH",
        "a.ome.tif.claimed_/x",
        "a.ome.tif.x.lock",
    )
    for name in (*left, *kept):
        path = tmp_path / f".{name}"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    (tmp_path / ".a.ome.tif.lock").write_text("cytoseg slides (process 1 on here, since long ago)")
    for path in tmp_path.iterdir():
        _age(path)
    with claimed_folder(tmp_path / ".a.ome.tif.claimed_"):
        sweep_beside(tmp_path / "a.ome.tif")
    assert _files(tmp_path) == {f".{name}" for name in kept}
    sweep_beside(tmp_path / "nowhere" / "a")


@pytest.mark.posix
def test_a_link_beside_an_output_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / ".a.abcdefgh").symlink_to(tmp_path / "other")
    sweep_beside(tmp_path / "a")
    assert (tmp_path / ".a.abcdefgh").is_symlink()
