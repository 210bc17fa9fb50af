"""Reading a recipe: a YAML file and what the command line changes in it."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cytoseg.errors import RecipeError
from cytoseg.recipe.schema import Recipe
from cytoseg.shipped import shipped_recipes


def find_recipe(name: str) -> Path:
    """Find a recipe by path, or by the name of one that comes with the program.

    Raises:
        RecipeError: If there is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = {p.stem: p for p in sorted(shipped_recipes().glob("*.yaml"), key=lambda path: path.stem)}
    if path.name == name and path.stem in shipped:
        return shipped[path.stem]
    raise RecipeError(f"{name}: no such recipe. Give a YAML file, or one of {', '.join(shipped)}.")


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply overrides and check everything.

    Args:
        name: Path, or name of a shipped recipe.
        overrides: ``section.key=value``; the value is read as YAML 1.2.

    Raises:
        RecipeError: With all problems of the file in one message.
    """
    path = find_recipe(name)
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a table of sections, found {type(values).__name__}.")
    for override in overrides:
        _apply(values, override)
    try:
        return Recipe.model_validate(values)
    except pydantic.ValidationError as error:
        raise RecipeError(f"{path}: " + "; ".join(_sentence(e) for e in error.errors())) from error


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"override {override!r}: write section.key=value, such as training.crops=20000.")
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise RecipeError(f"override {override!r}: {section} is a single value, not a section.")
    try:
        values[last] = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise RecipeError(f"override {override!r}: the value is not YAML ({' '.join(str(error).split())}).") from error


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if not str(part).startswith("<"))
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key. Remove it or mend its spelling (`cytoseg recipe explain` lists all keys)"
    text = error["msg"].removeprefix("Value error, ")
    return f"{where}: {text}, found {error['input']!r}" if where else text


def dump_recipe(recipe: Recipe) -> str:
    """Write the recipe with every value, defaults included, as YAML."""
    yaml, text = YAML(), io.StringIO()
    yaml.width = 4096
    yaml.dump(recipe.model_dump(mode="json"), text)
    return text.getvalue()
