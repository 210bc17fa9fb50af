import contextlib
import errno
import multiprocessing
import os
import re
import threading
from pathlib import Path

import pytest

from cytoseg import locks
from cytoseg.errors import LabelError
from cytoseg.locks import claim, claimed_folder, is_claimed, locked


def _take(path: Path) -> None:
    with locked(path, wait_s=0.05, error=LabelError):
        pass


def test_the_holder_of_a_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/cytoseg", "label-import", "folder"])
    labels = tmp_path / "labels"
    who = rf"`?cytoseg label-import \(process {os.getpid()} on .+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)"
    with locked(labels, wait_s=0, error=LabelError):
        with pytest.raises(LabelError, match=f"^{re.escape(str(labels))}: {who} is writing it. Wait until it ends"):
            _take(labels)
        with pytest.raises(LabelError, match=who):  # who asked in vain has not wiped the name
            _take(labels)
    assert list(tmp_path.iterdir()) == []
    _take(labels)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["/lib/cytoseg/__main__.py", "evaluate"], "cytoseg evaluate "),
        (["cytoseg"], "cytoseg "),
        (["cytoseg", "--version"], "cytoseg "),
        (["/lib/cytoseg/review/serve.py", "--runs", "x"], "cytoseg review "),
        (["notebook.py", "x"], "notebook.py "),
        ([""], "python "),
    ],
)
def test_the_command_is_named(
    arguments: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", arguments)
    with locked(tmp_path / "a", wait_s=0, error=LabelError):
        assert (tmp_path / ".a.lock").read_text().startswith(f"{named}(process")


def test_who_waits_long_enough_gets_the_lock(tmp_path: Path) -> None:
    held, order = threading.Event(), []

    def work() -> None:
        with locked(tmp_path / "a", wait_s=0, error=LabelError):
            held.set()
            threading.Event().wait(0.2)
            order.append("first")

    thread = threading.Thread(target=work)
    thread.start()
    held.wait()
    with locked(tmp_path / "a", wait_s=10, error=LabelError):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("content", [b"", b"\xff\x00\x1b[2J", b"a\nb"])
def test_a_lock_file_that_says_nothing_readable_names_another_process(content: bytes, tmp_path: Path) -> None:
    with locked(tmp_path / "a", wait_s=0, error=LabelError):
        (tmp_path / ".a.lock").write_bytes(content)
        with pytest.raises(LabelError, match="a: another process is writing it"):
            _take(tmp_path / "a")


def test_a_released_lock_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".a.lock").write_text("cytoseg predict (process 1 on here, since long ago)")
    _take(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_where_no_lock_can_be_made_the_system_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        _take(tmp_path / "file" / "a")


def test_a_claim_holds_until_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        assert not is_claimed(path)
        claim(file.fileno())
        assert is_claimed(path)
    assert not is_claimed(path)
    with contextlib.suppress(OSError):
        claim(10**6)  # not open: nothing happens


@pytest.mark.posix
def test_a_folder_can_be_claimed_and_what_cannot_be_opened_counts_as_claimed(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    claim(descriptor)
    assert is_claimed(tmp_path)
    os.close(descriptor)
    assert not is_claimed(tmp_path)
    assert is_claimed(tmp_path / "missing")
    (tmp_path / "link").symlink_to(tmp_path)
    assert is_claimed(tmp_path / "link")


def test_where_the_system_has_no_locks_everything_counts_as_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    with (tmp_path / "a").open("wb") as file:
        claim(file.fileno())
    assert is_claimed(tmp_path / "a")


def test_where_folders_cannot_be_opened_none_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with claimed_folder(tmp_path):
        assert is_claimed(tmp_path)
    assert not is_claimed(tmp_path)
    with pytest.raises(FileNotFoundError), claimed_folder(tmp_path / "missing"):
        pass
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(os, "open", lambda *_given: pytest.fail("Windows refuses this"))
    with claimed_folder(tmp_path):
        pass


@pytest.fixture(params=["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def _no_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system answer as on Lustre without the mount option ``flock``, or NFS without a lock server."""
    number = getattr(errno, request.param)

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)


@pytest.mark.posix
@pytest.mark.usefixtures("_no_flock")
def test_a_file_system_without_locks_still_lets_only_one_in(tmp_path: Path) -> None:
    with locked(tmp_path / "labels", wait_s=0, error=LabelError):
        with pytest.raises(LabelError, match=r"another process is writing it.*remove \.labels\.soft-lock"):
            _take(tmp_path / "labels")
        _take(tmp_path / "other")
    assert list(tmp_path.iterdir()) == []
    _take(tmp_path / "labels")


@pytest.mark.posix
@pytest.mark.usefixtures("_no_flock")
def test_a_holder_from_before_the_locks_failed_is_respected(tmp_path: Path) -> None:
    (tmp_path / ".labels.lock").write_text("cytoseg evaluate (process 1 on lab)")
    with pytest.raises(LabelError, match=r"labels: cytoseg evaluate \(process 1 on lab\) is writing it"):
        _take(tmp_path / "labels")


def _die_with_lock(path: Path) -> None:
    with locked(path, wait_s=0, error=LabelError):
        os._exit(9)


@pytest.mark.posix
@pytest.mark.usefixtures("_no_flock")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_lock_of_a_process_that_died_is_taken_without_locks_of_the_system(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_die_with_lock, args=(tmp_path / "labels",))
    child.start()
    child.join()
    assert (child.exitcode, [path.name for path in tmp_path.iterdir()]) == (9, [".labels.soft-lock"])
    with locked(tmp_path / "labels", wait_s=5, error=LabelError):
        pass
    assert list(tmp_path.iterdir()) == []
