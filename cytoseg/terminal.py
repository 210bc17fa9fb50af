"""Terminal output: messages and progress bars."""

import contextlib
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from cytoseg.distributed import process_rank
from cytoseg.duration_text import PROGRESS_VARIABLE, duration_text
from cytoseg.interrupts import raise_if_interrupted
from cytoseg.quoting import one_line, printable
from cytoseg.time_left import seconds_left, whole_time

# No markup: "cytoseg[app]" and slides named "a[1].tif" must come out as they are.
# Only rank 0 prints.
console = Console(stderr=False, soft_wrap=True, markup=False, quiet=process_rank() > 0)

LOG_LINE_S = 30.0
"""Seconds between progress lines in a pipe or log file, which replace the bar; the app asks for a shorter interval."""
_LONGEST_CELL = 200
_WORTH_SAYING_S = 60.0
"""Work that takes less time is not estimated."""

Item = TypeVar("Item")


def say(text: str) -> None:
    """Print one or more lines for the user; control characters are escaped."""
    console.print("\n".join(map(printable, text.split("\n"))), highlight=False, markup=False)


def cells(*values: str) -> tuple[str, ...]:
    """Make untrusted values printable and short enough for table cells."""
    return tuple(map(_cell, values))


def _cell(value: str) -> str:
    return one_line(value, max_chars=_LONGEST_CELL)


def say_next(*words: str) -> None:
    """Print the next command, ready to be copied.

    Args:
        words: The arguments after ``cytoseg``; they are quoted for a shell.
    """
    say(f"Next: {shlex.join(('cytoseg', *words))}")


def say_estimate(seconds: float, *, what: str = "this") -> None:
    """Print about how long something will take, unless it takes less than a minute."""
    if seconds >= _WORTH_SAYING_S:
        say(f"About {duration_text(seconds)} for {what} on this machine.")


class _TimeLeft(ProgressColumn):
    """Column with the remaining time, also if a single step takes minutes."""

    def render(self, task: Task) -> Text:
        left_s = _seconds_left_of(task)
        return Text("" if left_s is None or task.finished else f"{duration_text(left_s)} to go")


def _seconds_left_of(task: Task) -> float | None:
    """Estimate by the pace up to the last move: a unit in work does not slow it. None once the unit is overdue."""
    elapsed_s = task.elapsed or 0.0
    moved_s: float = min(elapsed_s, task.fields["moved_s"])
    fraction_left: float | None = task.fields.get("fraction_left")
    before = task.fields["before"]
    if fraction_left is not None:  # a fraction of the work if units differ
        left_s = seconds_left(1 - fraction_left, 1.0, moved_s)
    else:
        done = task.completed + task.fields.get("part", 0.0) - before
        left_s = seconds_left(done, (task.total or 0) - before, max(0.0, moved_s - task.fields["before_s"]))
    if left_s is None or 0 < left_s <= elapsed_s - moved_s:
        return None
    return max(0.0, left_s - (elapsed_s - moved_s))


@contextlib.contextmanager
def progress(what: str, total: int, *, done: int = 0, even: bool = True) -> Iterator["Bar"]:
    """Show a progress bar with count, elapsed and remaining time; in a pipe or file, one line every half minute.

    Args:
        what: Description of the work.
        total: Number of units.
        done: Units done by an earlier call.
        even: Whether all units take about equally long; then a line gives the total time after the first ones.

    Yields:
        The bar, to be updated.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _TimeLeft(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as bars:
        fields: dict[str, Any] = {"note": "", "before": done, "before_s": 0.0, "moved_s": 0.0}
        bar = Bar(bars, bars.add_task(_cell(what), total=total, completed=done, **fields), even=even)
        with contextlib.nullcontext() if console.is_terminal else _printed_lines(bar):
            yield bar


@contextlib.contextmanager
def weighted_progress(what: str, each_s: Sequence[float], *, units: str) -> Iterator[Callable[[str, int, int], None]]:
    """Print an estimate of work whose units differ, and show a bar whose remaining time is weighted by it.

    Args:
        what: Description of the work.
        each_s: Estimated seconds of each unit, 0 for finished ones; all 0 if unknown.
        units: What the units are called in the estimate.

    Yields:
        A function to call before each unit with its description, the number of units done, and the total.
    """
    ahead_s = [sum(each_s[done:]) for done in range(len(each_s) + 1)]
    say_estimate(ahead_s[0], what=f"{sum(map(bool, each_s))} {units}")
    with progress(what, len(each_s), even=False) as bar:

        def on_unit(title: str, done: int, _total: int) -> None:
            bar.update(done, title)
            if ahead_s[0]:
                bar.set_fraction_left(ahead_s[done] / ahead_s[0])

        yield on_unit


def one_by_one(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yield items whose work shows a bar each; between them print about how long the rest will take.

    Args:
        items: The items.
        what: What they are called.
    """
    taken_s: list[float] = []
    for done, item in enumerate(items):
        if taken_s:
            left_s = (len(items) - done) * sum(taken_s) / len(taken_s)
            if left_s >= _WORTH_SAYING_S:
                say(f"{done} of {len(items)} {what} are done; the others take about {duration_text(left_s)}.")
        begin = time.monotonic()
        yield item
        if time.monotonic() - begin >= 1.0:  # an item finished by an earlier call is no measure
            taken_s.append(time.monotonic() - begin)


@contextlib.contextmanager
def _printed_lines(bar: "Bar") -> Iterator[None]:
    """Print the bar's line every half minute, even without updates: a single training may take minutes."""
    over = threading.Event()

    def speak() -> None:
        while not over.wait(_line_s()):
            say(bar.line())

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        over.set()
        speaker.join()


def _line_s() -> float:
    asked = os.environ.get(PROGRESS_VARIABLE, "")
    return max(1.0, float(asked)) if asked.isdecimal() else LOG_LINE_S


class Bar:
    """One progress bar."""

    def __init__(self, bars: Progress, task: Any, *, even: bool = True) -> None:
        self._bars, self._task = bars, task
        self._began = self._working_from = time.monotonic()
        self._seen: list[tuple[float, float]] = []
        self._estimated = not even

    def resume_at(self, done: int) -> None:
        """Show the units that an earlier call has done; they do not count for the pace."""
        self._bars.update(self._task, completed=done, before=done)

    def update_of(self, done: int, total: int) -> None:
        """Move the bar to ``done`` of a total known only now."""
        self._move(completed=done, total=total)

    def update_phase(self, phase: str, done: int, total: int) -> None:
        """Move the bar to ``done`` of a total known only now, with a note that names the phase.

        What was done, and the time that passed, before a phase with a total of its own do not count for its pace.
        """
        task = self._bars.tasks[self._task]
        if _cell(phase) != task.fields["note"] and total != task.total:
            self._bars.update(self._task, before=done, before_s=self._elapsed_s())
            self._working_from, self._seen = time.monotonic(), []
        self._move(completed=done, total=total, note=phase)

    def update(self, done: int, note: str = "", *, part: float = 0.0) -> None:
        """Move the bar to ``done`` and show a note behind it.

        Args:
            done: Units done.
            note: The note.
            part: How much of further units is done, such as 12.5 of a batch of 25; it counts for the pace.
        """
        self._move(completed=done, note=note, part=part)

    def set_fraction_left(self, fraction: float) -> None:
        """Set the fraction of the work that remains, for the estimate of the time left where units differ."""
        self._bars.update(self._task, fraction_left=fraction, moved_s=self._elapsed_s())

    def _move(self, **fields: Any) -> None:
        raise_if_interrupted()
        if "note" in fields:
            fields["note"] = _cell(fields["note"])
        self._bars.update(self._task, moved_s=self._elapsed_s(), **fields)
        task = self._bars.tasks[self._task]
        done = task.completed + task.fields.get("part", 0.0) - task.fields["before"]
        if done <= 0:  # loading until now does not count for the pace
            self._working_from = time.monotonic()
        if self._estimated or done <= 0:
            return
        self._seen = [*self._seen[:1], (done, time.monotonic() - self._working_from)]
        seconds = whole_time(self._seen, (task.total or 0) - task.fields["before"])
        if seconds is not None:
            self._estimated = True
            say_estimate(seconds, what=task.description)

    def _elapsed_s(self) -> float:
        return self._bars.tasks[self._task].elapsed or 0.0

    def line(self) -> str:
        """Return the progress as one line."""
        task = self._bars.tasks[self._task]
        left_s = _seconds_left_of(task)
        parts = [
            f"{task.description} {task.completed:.0f} of {task.total or 0:.0f}",
            f"{duration_text(time.monotonic() - self._began)} so far",
            *([] if left_s is None else [f"about {duration_text(left_s)} to go"]),
            *([str(task.fields["note"])] if task.fields["note"] else []),
        ]
        return ", ".join(parts)
