"""Faults at random moments: a full or read-only disk, files that cannot grow, a run that is removed, an edited or
removed recipe.

Each command either ends well, or says in one line what is wrong with exit status 2; when the fault is over the same
command comes to the same result. The moments are changes of files, drawn from a seed; see test_kills.py.
"""

import errno
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.end_to_end.cases import CASES, RUN, Case, put_back
from tests.end_to_end.test_kills import KILLS, do_nothing
from tests.end_to_end.watched_fork import Change, Ended, OnChange, limit_files, run_watched

pytestmark = pytest.mark.posix
Command = Callable[..., Result]
EDITS: tuple[Callable[[str], str], ...] = (
    lambda text: text.replace("members: 2", "members: 3") + "# edited meanwhile\n",
    lambda text: text + "{ half of an edit\n",
    lambda _: "",
)
WRITES_RECIPE = "select-features"


class Faulty:
    """A command that meets faults, in a folder that is put back before each.

    Args:
        case: The command.
        cytoseg: Runs it.
        home: The folder.
    """

    def __init__(self, case: Case, cytoseg: Command, home: Path) -> None:
        self.case, self.home, self._told = case, home, home.with_name("told")
        self._command = lambda: cytoseg(*case.line.split())
        for line in case.before:
            assert cytoseg(*line.split()).exit_code == 0, line
        put_back(home, home.with_name("before"), first=True)
        whole = run_watched(self._command, self._told, do_nothing)
        assert whole.status == 0, whole.said
        sizes = [path.stat().st_size for path in home.rglob("*") if path.is_file()]
        self.changes, self.wanted, self.largest = whole.changes, case.made(), max(sizes)

    def meet(self, on_change: OnChange, *, begin: Callable[[], None] | None = None) -> Ended:
        """Run the command with a fault, of which it must say no more than one line."""
        put_back(self.home, self.home.with_name("before"))
        ended = run_watched(self._command, self._told, on_change, begin=begin)
        assert ended.status in (0, 2), ended.said
        assert "Traceback" not in ended.said
        said = [line for line in ended.said.splitlines() if line.startswith("cytoseg: ")]
        assert len(said) == (ended.status == 2), ended.said
        return ended

    def disk(self, fault: int, at: int) -> None:
        """Let everything fail from a change on that a full disk (ENOSPC) or a read-only one (others) refuses."""

        def refuse(change: Change) -> None:
            within = change.path.is_relative_to(self.home) or change.path.is_relative_to(self.home.resolve())
            if change.number >= at and within and (change.makes or fault != errno.ENOSPC):
                raise OSError(fault, os.strerror(fault), str(change.path))

        self._recover(self.meet(refuse), f"{errno.errorcode[fault]} from change {at}")

    def small_files(self, most_bytes: int) -> None:
        """Let no file grow beyond a size."""
        ended = self.meet(do_nothing, begin=lambda: limit_files(most_bytes))
        self._recover(ended, f"files of at most {most_bytes} bytes")

    def _recover(self, ended: Ended, tried: str) -> None:
        if ended.status == 0:
            assert self.case.made() == self.wanted, (tried, ended.said)
            return
        time.sleep(0.25)  # as long as a command takes to start
        again = self._command()
        is_whole = self.case.whole is not None and self.case.whole in again.output
        assert again.exit_code == 0 or is_whole, (tried, ended.said, again.output)
        assert self.case.made() == self.wanted, (tried, ended.said)
        assert list(self.home.rglob(".*")) == [], (tried, ended.said)

    def removed_run(self, at: int) -> None:
        """Remove the run folder before a change."""

        def remove(change: Change) -> None:
            if change.number == at:
                shutil.rmtree(RUN, ignore_errors=True)

        self.meet(remove)

    def edited_recipe(self, at: int, edit: Callable[[str], str]) -> None:
        """Edit the recipe before a change."""
        recipe = self.home / "tiny.yaml"
        edited = edit(recipe.read_text())

        def save(change: Change) -> None:
            if change.number == at:
                recipe.write_text(edited)

        ended = self.meet(save)
        if self.case is not CASES[WRITES_RECIPE]:
            assert ended.status == 0, ended.said
            assert recipe.read_text() == edited
        if ended.status == 0:
            assert self.case.made() == self.wanted, ended.said

    def removed_recipe(self, at: int) -> None:
        """Remove the recipe before a change."""
        recipe = self.home / "tiny.yaml"

        def remove(change: Change) -> None:
            if change.number == at:
                recipe.unlink()

        ended = self.meet(remove)
        if self.case is not CASES[WRITES_RECIPE]:
            assert ended.status == 0, ended.said
            assert not recipe.exists()
            assert self.case.made() == self.wanted, ended.said


def _fault_at_random(faulty: Faulty, draw: random.Random) -> None:
    at = draw.randint(1, faulty.changes)
    draw.choice(
        (
            lambda: faulty.disk(errno.ENOSPC, at),
            lambda: faulty.disk(draw.choice((errno.EACCES, errno.EROFS)), at),
            lambda: faulty.small_files(int(faulty.largest ** draw.random())),
        )
    )()


@pytest.mark.slow
def test_an_import_survives_faults_at_random_moments(case_home: Path, cytoseg: Command) -> None:
    faulty, draw = Faulty(CASES["label-import"], cytoseg, case_home), random.Random(1)
    for _ in range(2):
        _fault_at_random(faulty, draw)
    faulty.removed_run(draw.randint(1, faulty.changes))
    faulty.edited_recipe(draw.randint(1, faulty.changes), EDITS[0])
    faulty.removed_recipe(draw.randint(1, faulty.changes))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_full_or_read_only_disk_is_one_line(name: str, case_home: Path, cytoseg: Command) -> None:
    faulty, draw = Faulty(CASES[name], cytoseg, case_home), random.Random(2)
    for _ in range(max(1, KILLS // 5)):
        _fault_at_random(faulty, draw)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_removed_is_one_line(name: str, case_home: Path, cytoseg: Command) -> None:
    faulty, draw = Faulty(CASES[name], cytoseg, case_home), random.Random(3)
    for _ in range(max(1, KILLS // 8)):
        faulty.removed_run(draw.randint(1, faulty.changes))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "tiny.yaml" in case.line])
def test_a_recipe_that_is_edited_or_removed_meanwhile_is_used_as_it_was(
    name: str, case_home: Path, cytoseg: Command
) -> None:
    faulty, draw = Faulty(CASES[name], cytoseg, case_home), random.Random(4)
    for _ in range(max(1, KILLS // 30)):
        for edit in EDITS:
            faulty.edited_recipe(draw.randint(1, faulty.changes), edit)
        faulty.removed_recipe(draw.randint(1, faulty.changes))
