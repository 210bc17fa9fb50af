"""Arguments shared by commands, and recording a command in its run."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cytoseg.distributed import process_rank
from cytoseg.errors import CheckpointError, CytosegError, RecipeError
from cytoseg.leftovers import sweep, sweep_files
from cytoseg.locks import locked
from cytoseg.recipe import Recipe, dump_recipe, load_recipe
from cytoseg.runs import recorded
from cytoseg.slides.regular_file import check_disk_answers
from cytoseg.writing import PATIENCE_S, write_atomically

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe file, or the name of a shipped recipe.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Values of the recipe to override.", show_default=False),
]


@dataclass(frozen=True)
class Run:
    """A command's recipe, run folder and entry in ``run.json``."""

    recipe: Recipe
    folder: Path
    entry: dict[str, Any]


@contextlib.contextmanager
def start_run(recipe_name: str, overrides: Sequence[str] | None, *, command: str) -> Iterator[Run]:
    """Load the recipe, copy it to the run folder, and record the command there.

    Raises:
        RecipeError: If the recipe or an override is invalid, or the run folder cannot be created, see
            ``check_folders``; nothing is written then.
    """
    recipe = load_recipe(recipe_name, overrides or ())
    folder = recipe.run_folder()
    check_folders(recipe)
    if process_rank() == 0:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # as where the system mounts folders on demand
            raise RecipeError(
                f"{folder}: cannot be created. Name another run folder, such as folder=runs/a."
            ) from error
    with errors_of_removed_run(folder):
        if process_rank() == 0:
            sweep(folder)
            sweep_files(Path(recipe_name).parent, of=Path(recipe_name).name)
            write_atomically(folder / "recipe.yaml", dump_recipe(recipe))
        with recorded(folder, command, recipe=recipe.name, seed=recipe.training.seed) as entry:
            yield Run(recipe, folder, entry)


def check_folders(recipe: Recipe) -> None:
    """Check that the folders of a run and of its labels are folders or can become some. Creates nothing.

    Raises:
        RecipeError: If one of them, or a folder above it, is a file; or its disk does not answer.
    """
    for place, setting in ((recipe.run_folder(), "folder"), (recipe.labels_folder(), "labels.folder")):
        check_disk_answers(place, error_class=RecipeError)
        found = next(path for path in (place, *place.absolute().parents) if path.exists())
        if not found.is_dir():
            raise RecipeError(
                f"{place}: cannot be a folder, because {found} is a file. Set {setting} to another place, or move the "
                "file."
            )


@contextlib.contextmanager
def errors_of_removed_run(folder: Path) -> Iterator[None]:
    """Say of any error that the run folder was removed meanwhile, if it was: what is missing is a consequence.

    Args:
        folder: The run folder.

    Raises:
        CytosegError: Instead of an error of a file.
    """
    with _held(folder) as still_there:
        try:
            yield
        except (OSError, CytosegError) as error:
            if still_there():
                raise
            raise CytosegError(
                f"{folder}: was removed or replaced while this command was working in it. Restore it, or run the "
                "commands that made it again."
            ) from error


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[Callable[[], bool]]:
    """Yield whether a folder is still the same one; always if it cannot be opened, as on Windows."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield lambda: True
        return

    def still_there() -> bool:
        # While it is open, no other folder gets its number.
        try:
            return os.path.samestat(os.fstat(descriptor), folder.stat())
        except OSError:
            return False

    try:
        yield still_there
    finally:
        os.close(descriptor)


def alone_in(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Allow one command at a time in a folder of the run; only rank 0 of a distributed training takes the lock.

    Raises:
        CheckpointError: If another command works there.
    """
    if process_rank() > 0:
        return contextlib.nullcontext()
    return locked(folder, wait_s=PATIENCE_S, error=CheckpointError)


def refuse_other_classes(trained: Sequence[str], recipe: Recipe, *, command: str) -> None:
    """Refuse a bundle whose classes differ from the recipe's in name or order.

    Args:
        trained: Names of the bundle's classes.
        recipe: The command's recipe.
        command: Name of the command for messages.

    Raises:
        CheckpointError: If they differ.
    """
    wanted = recipe.class_list().names
    if tuple(trained) != wanted:
        raise CheckpointError(
            f"{command}: the bundle was trained on the classes ({', '.join(trained)}), the recipe has "
            f"({', '.join(wanted)}). Run `cytoseg train-interpreter` again."
        )


def refuse_other_mpp(trained: float | None, recipe: Recipe, *, command: str) -> None:
    """Refuse a bundle that was trained at another pixel size: it would see cells of another size.

    Args:
        trained: The bundle's mpp; None if its slides stated none.
        recipe: The command's recipe.
        command: Name of the command or option for messages.

    Raises:
        RecipeError: If they differ.
    """
    wanted = recipe.slides.mpp
    if trained != wanted:
        raise RecipeError(
            f"{command}: the interpreter was trained at slides.mpp {trained}, the recipe has {wanted}. Train it again."
        )
