"""Kills and signals at random moments: the next command works, nothing is lost or half-written.

A command is killed or asked to end before the n-th time that it opens a file for writing, renames, makes or removes
something: that is every state of whole files in which a kill can leave the disk. Others are ended after a random time,
also in the middle of a file. The moments are drawn from a seed. CYTOSEG_KILLS sets how many there are for each command.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from cytoseg.interrupts import INTERRUPTED
from tests.end_to_end.cases import CASES, Case, put_back
from tests.end_to_end.watched_fork import Change, Ended, run_watched

pytestmark = pytest.mark.posix
KILLS = int(os.environ.get("CYTOSEG_KILLS", "30"))
SIGNALS = tuple(getattr(signal, name, None) for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"))
TIMED = (
    *("whole compare", "study", "robustness", "architectures", "score-samples", "select-features", "make-pairs"),
    *("train-autoencoder", "edit", "convert", "label-export"),
)
"""Commands that are also ended after a random time; trainings are, with two processes, in test_processes.py."""

Command = Callable[..., Result]


def do_nothing(_: Change) -> None:
    pass


class Killing:
    """A command to be ended early, in a folder that is put back before each try.

    Args:
        case: The command.
        cytoseg: Runs it.
        home: The folder.
    """

    def __init__(self, case: Case, cytoseg: Command, home: Path) -> None:
        self._case, self._home, self._told = case, home, home.with_name("told")
        self._command = lambda: cytoseg(*case.line.split())
        for line in case.before:
            assert cytoseg(*line.split()).exit_code == 0, line
        put_back(home, home.with_name("before"), first=True)
        begin = time.monotonic()
        whole = run_watched(self._command, self._told, do_nothing)
        self.seconds, self.changes, self._wanted = time.monotonic() - begin, whole.changes, case.made()
        assert whole.status == 0, whole.said
        assert whole.changes > 0

    def before_change(self, at: int, by: int) -> None:
        """Send a signal before a change of files."""

        def end(change: Change) -> None:
            if change.number == at:
                os.kill(os.getpid(), by)

        killed = (-by,) if by == signal.SIGKILL else (0, INTERRUPTED)
        self._end_and_repeat(lambda: run_watched(self._command, self._told, end), killed, f"{by} before change {at}")

    def after(self, seconds: float, by: int) -> None:
        """Send a signal after a time."""

        def begin() -> None:
            timer = threading.Timer(seconds, os.kill, (os.getpid(), by))
            timer.daemon = True
            timer.start()

        run = lambda: run_watched(self._command, self._told, do_nothing, begin=begin)  # noqa: E731 - an argument
        self._end_and_repeat(run, (-by, 0) if by == signal.SIGKILL else (0, INTERRUPTED), f"{by} after {seconds:.3f} s")

    def _end_and_repeat(self, run: Callable[[], Ended], expected: tuple[int, ...], tried: str) -> None:
        """Run the command, which may also end well before a signal is heard, and start it again."""
        put_back(self._home, self._home.with_name("before"))
        ended = run()
        assert ended.status in expected, (tried, ended)
        time.sleep(0.25)  # as long as a command takes to start
        again = self._command()
        is_whole = self._case.whole is not None and self._case.whole in again.output
        assert again.exit_code == 0 or is_whole, (tried, again.output)
        assert self._case.made() == self._wanted, tried
        assert list(self._home.rglob(".*")) == [], tried


def test_labels_survive_kills_at_random_moments(case_home: Path, cytoseg: Command) -> None:
    killing, draw = Killing(CASES["label-import"], cytoseg, case_home), random.Random(1)
    for _ in range(6):
        killing.before_change(draw.randint(1, killing.changes), draw.choice(SIGNALS))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_command_survives_kills_at_random_moments(name: str, case_home: Path, cytoseg: Command) -> None:
    killing, draw = Killing(CASES[name], cytoseg, case_home), random.Random(2)
    for _ in range(KILLS):
        killing.before_change(draw.randint(1, killing.changes), draw.choice(SIGNALS))


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMED)
def test_a_command_survives_kills_after_random_times(name: str, case_home: Path, cytoseg: Command) -> None:
    killing, draw = Killing(CASES[name], cytoseg, case_home), random.Random(3)
    for _ in range(max(1, KILLS // 5)):
        killing.after(draw.uniform(0, killing.seconds), draw.choice(SIGNALS))
