"""What all commands share: arguments, the recorded run, progress bars."""

import contextlib
import datetime
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cytoseg.errors import CheckpointError
from cytoseg.leftovers import sweep
from cytoseg.locks import locked
from cytoseg.recipe import Recipe, dump_recipe, load_recipe
from cytoseg.runs import process_rank, recorded
from cytoseg.writing import PATIENCE_S, write_atomically

# No markup: "cytoseg[app]" and slides named "a[1].tif" must come out as they are.
# Of several processes the first one speaks.
console = Console(stderr=False, soft_wrap=True, markup=False, quiet=process_rank() > 0)

LOG_LINE_S = 120.0

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe file, or the name of a shipped recipe.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Values of the recipe to override.", show_default=False),
]


@dataclass(frozen=True)
class Run:
    """A command's recipe, its run folder, and the entry it leaves in ``run.json``."""

    recipe: Recipe
    folder: Path
    entry: dict[str, Any]


@contextlib.contextmanager
def start_run(recipe_name: str, overrides: Sequence[str] | None, *, command: str) -> Iterator[Run]:
    """Load the recipe, keep a copy of it in the run folder, and record the command there.

    Raises:
        RecipeError: If the recipe or an override is wrong; nothing is written then.
    """
    recipe = load_recipe(recipe_name, overrides or ())
    folder = recipe.run_folder()
    if process_rank() == 0:
        sweep(folder)
        write_atomically(folder / "recipe.yaml", dump_recipe(recipe))
    with recorded(folder, command, recipe=recipe.name, seed=recipe.training.seed) as entry:
        yield Run(recipe, folder, entry)


def alone_in(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Let one command at a time train in a folder of the run; of processes that train together the first one counts.

    Raises:
        CheckpointError: If another command is training there.
    """
    if process_rank() > 0:
        return contextlib.nullcontext()
    return locked(folder, wait_s=PATIENCE_S, error=CheckpointError)


def refuse_other_classes(trained: Sequence[str], recipe: Recipe, *, command: str) -> None:
    """Refuse a bundle whose classes are not those of the recipe, by name and order.

    Args:
        trained: Names of the bundle's classes.
        recipe: What the command goes by.
        command: For the message.

    Raises:
        CheckpointError: If they differ.
    """
    wanted = recipe.class_list().names
    if tuple(trained) != wanted:
        raise CheckpointError(
            f"{command}: the bundle was trained on the classes ({', '.join(trained)}), the recipe has "
            f"({', '.join(wanted)}). Run `cytoseg train-interpreter` again."
        )


@contextlib.contextmanager
def progress(what: str, total: int, *, done: int = 0) -> Iterator["Bar"]:
    """Show a progress bar with count, elapsed and remaining time."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as bars:
        yield Bar(bars, bars.add_task(what, total=total, completed=done, note=""))


class Bar:
    """One progress bar; where nobody sees it move, in a log file, a line every few minutes."""

    def __init__(self, bars: Progress, task: Any) -> None:
        self._bars, self._task = bars, task
        self._said_at = time.monotonic()

    def of(self, done: int, total: int) -> None:
        """Move the bar to ``done`` of a total that is known only now."""
        self._bars.update(self._task, completed=done, total=total)

    def phase(self, what: str, done: int, total: int) -> None:
        """Move the bar to ``done`` of a total that is known only now, of what the note names."""
        self._bars.update(self._task, completed=done, total=total, note=what)

    def at(self, done: int, note: str = "") -> None:
        """Move the bar to ``done`` and show a note behind it."""
        self._bars.update(self._task, completed=done, note=note)
        if not console.is_terminal and time.monotonic() - self._said_at >= LOG_LINE_S:
            self._said_at = time.monotonic()
            task = self._bars.tasks[self._task]
            left = f", {datetime.timedelta(seconds=round(task.time_remaining))} to go" if task.time_remaining else ""
            say(f"{task.description} {done} of {task.total:.0f}{left}. {note}".rstrip())


def say(text: str) -> None:
    """Print one line for the user."""
    console.print(text, highlight=False, markup=False)
