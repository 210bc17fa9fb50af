"""Reading the copy of a recipe in a run folder."""

from functools import lru_cache
from pathlib import Path

from cytoseg.errors import RecipeError
from cytoseg.recipe.file import read_recipe
from cytoseg.recipe.schema import Recipe


def recipe_of_run(run: Path) -> Recipe:
    """Read the recipe of a run, cached per version of the file.

    Args:
        run: The run folder.

    Raises:
        RecipeError: If it is missing, damaged or of a different version.
    """
    path = run / "recipe.yaml"
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (OSError, RecipeError) as error:
        raise RecipeError(
            f"recipe.yaml of this run cannot be used ({_why(error, path)}): it is damaged or of a different "
            "version. Run "
            "`cytoseg queue RECIPE` to write it again."
        ) from error


def _why(error: Exception, path: Path) -> str:
    if isinstance(error, RecipeError):
        return str(error).removeprefix(f"{path}: ").rstrip(".")
    return "it is missing" if isinstance(error, FileNotFoundError) else type(error).__name__


@lru_cache(maxsize=64)
def _read(path: Path, written_ns: int) -> Recipe:
    return read_recipe(path)


def labels_of_run(run: Path, base: Path) -> Path:
    """Return the folder of a run's imported labels.

    Args:
        run: The run folder.
        base: Base folder of relative paths in the recipe.

    Raises:
        RecipeError: If the recipe is missing, damaged or of a different version.
    """
    named = recipe_of_run(run).labels.folder
    return run / "labels" if named is None else base / named
