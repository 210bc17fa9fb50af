"""The name of a run in the log: kept from its first entry or its first command on."""

import json
import threading
from pathlib import Path

import pytest

from cytoseg.errors import LabelError
from cytoseg.review.run_name import FILE, name_in_log, named_in_log
from cytoseg.running import marked_running
from cytoseg.runs import recorded


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "lbc"
    folder.mkdir(parents=True)
    return folder


def _record(run: Path) -> str:
    """Record a command; gives its start to the minute."""
    with recorded(run, "evaluate", recipe="lbc", seed=0):
        pass
    started: str = json.loads((run / "run.json").read_text())["commands"][0]["started"]
    return started[:16]


def test_a_run_is_named_after_its_first_command(run: Path) -> None:
    assert name_in_log(run) == "lbc"
    name = f"lbc {_record(run)}"
    assert [name_in_log(run), named_in_log(run)] == [name, name]
    assert not (run / FILE).exists()


def test_the_first_command_of_a_run_that_is_in_the_log_does_not_rename_it(run: Path) -> None:
    name = named_in_log(run)
    assert name.startswith("lbc 20")
    assert len(name) == len("lbc 2026-03-01T10:00")
    _record(run)
    assert [name_in_log(run), named_in_log(run)] == [name, name]
    assert name_in_log(run.rename(run.with_name("renamed"))) == name


def test_a_command_that_is_killed_gives_no_name(run: Path) -> None:
    with marked_running(run, "evaluate", recipe="lbc", started="2020-01-01T10:00:00+00:00"):
        assert name_in_log(run) == "lbc"
        name = named_in_log(run)
    assert "2020" not in name
    assert name_in_log(run) == name


def test_of_two_who_write_at_once_one_names_the_run(run: Path) -> None:
    begun, found = threading.Barrier(4), []

    def write() -> None:
        begun.wait()
        found.append(named_in_log(run))

    people = [threading.Thread(target=write) for _ in range(4)]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()
    assert found == [name_in_log(run)] * 4
    assert [path.name for path in (run / FILE).parent.iterdir()] == [FILE.name]


@pytest.mark.parametrize("content", [b"\xff", b"", b"a\nb", b"a" * 401])
def test_a_damaged_name_is_refused(run: Path, content: bytes) -> None:
    (run / FILE).parent.mkdir()
    (run / FILE).write_bytes(content)
    with pytest.raises(LabelError, match=rf"^{FILE}: (cannot be read|is damaged)"):
        name_in_log(run)


def test_a_name_that_cannot_be_written_is_one_sentence(run: Path) -> None:
    (run / FILE).parent.write_text("a file where the folder should be")
    with pytest.raises(LabelError, match=rf"^{FILE}: cannot be written \(.*\)\. Check the permissions\.$"):
        named_in_log(run)
