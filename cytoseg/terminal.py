"""What commands say while they work: lines, progress bars, and how long it will take."""

import contextlib
import os
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from cytoseg.durations import EVERY, duration_text
from cytoseg.quoting import one_line, printable
from cytoseg.runs import process_rank

# No markup: "cytoseg[app]" and slides named "a[1].tif" must come out as they are.
# Of several processes the first one speaks.
console = Console(stderr=False, soft_wrap=True, markup=False, quiet=process_rank() > 0)

LOG_LINE_S = 30.0
"""Where nobody sees the bar move, in a pipe or a log file, a line stands for it so often; the app asks for more."""
_LONGEST_CELL = 200
_TOLD_FROM = 0.1
"""Share of the work after which it is said how long the rest takes."""
_MEASURED_S = 3.0
"""So long the pace is measured before an estimate is made of it. The first unit does not count: it warms up."""
_LONG_S, _FEW = 10.0, 100
"""Where a first unit takes that long and there are few, it is itself the measure: a second would be long in coming."""


def say(text: str) -> None:
    """Print one line for the user, or several; what a terminal would obey in them is escaped."""
    console.print("\n".join(map(printable, text.split("\n"))), highlight=False, markup=False)


def cells(*values: str) -> tuple[str, ...]:
    """Give the cells of a row that holds what stands in files: printable, and not too long."""
    return tuple(one_line(value, most=_LONGEST_CELL) for value in values)


def say_next(*words: str) -> None:
    """Name the command that comes next, ready to be copied.

    Args:
        words: The command without ``cytoseg``, each argument apart; what a shell would split or expand is quoted.
    """
    say(f"Next: {shlex.join(('cytoseg', *words))}")


def say_estimate(seconds: float, *, what: str = "this") -> None:
    """Say before something long begins how long it will take about; what is done within a minute needs no saying."""
    if seconds >= 60:
        say(f"About {duration_text(seconds)} for {what} on this machine.")


def seconds_left(done: float, total: float, elapsed_s: float) -> float | None:
    """Tell how long the rest takes, at the mean pace so far.

    Args:
        done: So much was done since the beginning of this call.
        total: So much there was to do then.
        elapsed_s: In so many seconds.

    Returns:
        In seconds; None before a tenth is done.
    """
    if total <= 0 or done < _TOLD_FROM * total or done <= 0:
        return None
    return elapsed_s * max(0.0, total - done) / done


class _Left(ProgressColumn):
    """The time that is left, also where a single step takes minutes."""

    def render(self, task: Task) -> Text:
        left = _left_of(task)
        return Text("" if left is None or task.finished else f"{duration_text(left)} to go")


def _left_of(task: Task) -> float | None:
    ahead: float | None = task.fields.get("ahead")
    if ahead is not None:  # a share of the work, where units differ
        return seconds_left(1 - ahead, 1.0, task.elapsed or 0.0)
    before = task.fields["before"]
    return seconds_left(task.completed - before, (task.total or 0) - before, task.elapsed or 0.0)


def whole_time(seen: Sequence[tuple[float, float]], total: float) -> float | None:
    """Estimate how long something takes from its first units.

    Args:
        seen: How much was done and after how many seconds, at the first unit and now.
        total: So much there is to do.

    Returns:
        In seconds; None before it can be told.
    """
    (first, first_s), (now, now_s) = seen[0], seen[-1]
    if now > first and now_s - first_s >= _MEASURED_S:
        return first_s + (total - first) * (now_s - first_s) / (now - first)
    if first > 0 and first_s >= _LONG_S and total <= _FEW * first:
        return first_s * total / first
    return None


@contextlib.contextmanager
def progress(what: str, total: int, *, done: int = 0, even: bool = True) -> Iterator["Bar"]:
    """Show a progress bar with count, elapsed and remaining time; into a pipe or a file, a line every half minute.

    Args:
        what: Is done.
        total: So many units there are.
        done: So many were done before.
        even: Whether all units take about as long: then a line says after the first ones how long all of them take.

    Yields:
        The bar, to be moved.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _Left(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as bars:
        bar = Bar(bars, bars.add_task(what, total=total, completed=done, note="", before=done), even=even)
        with contextlib.nullcontext() if console.is_terminal else _lines_of(bar):
            yield bar


@contextlib.contextmanager
def _lines_of(bar: "Bar") -> Iterator[None]:
    """Print the bar's line every half minute, also while nothing moves it: a single training may take minutes."""
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
    asked = os.environ.get(EVERY, "")
    return max(1.0, float(asked)) if asked.isdecimal() else LOG_LINE_S


class Bar:
    """One progress bar."""

    def __init__(self, bars: Progress, task: Any, *, even: bool = True) -> None:
        self._bars, self._task = bars, task
        self._began = self._working_from = time.monotonic()
        self._seen: list[tuple[float, float]] = []
        self._estimated = not even

    def goes_on(self, done: int) -> None:
        """Say how much was done by an earlier call: it counts for the bar, and not for the pace."""
        self._bars.update(self._task, completed=done, before=done)

    def of(self, done: int, total: int) -> None:
        """Move the bar to ``done`` of a total that is known only now."""
        self._move(completed=done, total=total)

    def phase(self, what: str, done: int, total: int) -> None:
        """Move the bar to ``done`` of a total that is known only now, of what the note names."""
        self._move(completed=done, total=total, note=what)

    def at(self, done: int, note: str = "") -> None:
        """Move the bar to ``done`` and show a note behind it."""
        self._move(completed=done, note=note)

    def ahead(self, share: float) -> None:
        """Say what share of the work lies ahead where the units differ: the time that is left goes by it."""
        self._bars.update(self._task, ahead=share)

    def _move(self, **fields: Any) -> None:
        self._bars.update(self._task, **fields)
        task = self._bars.tasks[self._task]
        done = task.completed - task.fields["before"]
        if done <= 0:  # what was loaded until now is no part of the pace
            self._working_from = time.monotonic()
        if self._estimated or done <= 0:
            return
        self._seen = [*self._seen[:1], (done, time.monotonic() - self._working_from)]
        seconds = whole_time(self._seen, (task.total or 0) - task.fields["before"])
        if seconds is not None:
            self._estimated = True
            say_estimate(seconds, what=task.description)

    def line(self) -> str:
        """Say in a line how far it is."""
        task = self._bars.tasks[self._task]
        left = _left_of(task)
        parts = [
            f"{task.description} {task.completed:.0f} of {task.total or 0:.0f}",
            f"{duration_text(time.monotonic() - self._began)} so far",
            *([] if left is None else [f"about {duration_text(left)} to go"]),
            *([str(task.fields["note"])] if task.fields["note"] else []),
        ]
        return ", ".join(parts)
