"""Signals to a running `cytoseg review`: it ends as on Ctrl-C, its port is free, and no process is left."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.test_interrupt import wait_until

pytestmark = [
    pytest.mark.slow,  # starts of the app
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc"),
]
SOURCES = Path(__file__).parents[2]
ENDED_BY = {signal.SIGINT: 130, signal.SIGTERM: 130, signal.SIGHUP: 130, signal.SIGKILL: -signal.SIGKILL}
"""Exit status by signal."""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def review(port: int, tmp_path: Path, hears_ctrl_c: None) -> Iterator["subprocess.Popen[str]"]:
    """`cytoseg review` in an empty folder, as a user starts it; its output is in tmp_path/output."""
    pytest.importorskip("streamlit")
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have set it for the suite
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cytoseg", "review", f"review.port={port}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    signal.signal(signal.SIGHUP, before)
    yield process
    for left in (process.pid, *descendants(process.pid)):
        if is_running(left):
            os.kill(left, signal.SIGKILL)
    process.wait(30)


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def descendants(process: int) -> list[int]:
    """List the children of a process, and theirs."""
    found = []
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *descendants(child)]
    return found


def serves(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5):
            return True
    except urllib.error.HTTPError:  # refused for want of a token, but answered
        return True
    except OSError:
        return False


def is_free(port: int) -> bool:
    """Return whether a server could listen there, as the next `cytoseg review` will."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def eventually(there: Callable[[], bool], *, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while not there():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(("number", "status"), ENDED_BY.items(), ids=lambda value: getattr(value, "name", ""))
def test_what_ends_the_app_frees_its_port_and_leaves_no_process(
    number: signal.Signals, status: int, review: "subprocess.Popen[str]", port: int, tmp_path: Path
) -> None:
    wait_until(lambda: serves(port), review)
    children = descendants(review.pid)
    assert children
    with socket.create_connection(("127.0.0.1", port)):  # a page that is open in a browser
        review.send_signal(number)
        assert review.wait(30) == status
        assert eventually(lambda: not any(map(is_running, children)), within_s=10)
    assert is_free(port)
    said = (tmp_path / "output").read_text()
    assert "Traceback" not in said
    assert ("finished work is kept" in said) == (number != signal.SIGKILL)


@pytest.mark.parametrize(("number", "status"), ENDED_BY.items(), ids=lambda value: getattr(value, "name", ""))
def test_what_ends_the_app_while_it_starts_leaves_no_process(
    number: signal.Signals, status: int, review: "subprocess.Popen[str]", port: int, tmp_path: Path
) -> None:
    wait_until(lambda: bool(descendants(review.pid)), review)
    children = descendants(review.pid)
    review.send_signal(number)
    assert review.wait(30) == status
    # Its server looks for its parent once it is loaded.
    assert eventually(lambda: not any(map(is_running, children)), within_s=60)
    assert is_free(port)
    assert "Traceback" not in (tmp_path / "output").read_text()
