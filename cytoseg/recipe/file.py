"""Reading recipe files with overrides, and updating values in a file."""

import copy
import functools
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from shlex import quote
from typing import Any

import pydantic
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from cytoseg.errors import FileContentError, RecipeError
from cytoseg.locks import locked
from cytoseg.quoting import join_first, short_repr
from cytoseg.recipe.base_model import with_architecture
from cytoseg.recipe.keys import meant
from cytoseg.recipe.schema import Recipe
from cytoseg.recipe.upsampling import with_upsampling
from cytoseg.shipped import did_you_mean, shipped_recipes
from cytoseg.slides.regular_file import check_disk_answers
from cytoseg.writing import PATIENCE_S, write_atomically
from cytoseg.yaml_text import load_yaml, parse_yaml

MAX_PROBLEMS = 6
"""Most problems per message; the rest are counted."""

_OLD_NAMES = {"features.extractors": "filters"}
"""Former names of keys."""


def find_recipe(name: str) -> Path:
    """Find a recipe by path, or a shipped one by name.

    Raises:
        RecipeError: If there is none, or its disk does not answer.
    """
    path = Path(name)
    check_disk_answers(path, error_class=RecipeError)
    if path.is_file():
        return path
    shipped = {p.stem: p for p in sorted(shipped_recipes().glob("*.yaml"), key=lambda path: path.stem)}
    if path.name == name and path.stem in shipped:
        return shipped[path.stem]
    near = did_you_mean(name.removesuffix(".yaml"), shipped)
    own = quote(name) if path.suffix in (".yaml", ".yml") else "mylab.yaml"
    raise RecipeError(
        f"{name}: no such recipe. Give a YAML file, or one of {', '.join(shipped)}{near}. For your own slides write "
        f"one with `cytoseg recipe new {own}`."
    )


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply overrides and validate it.

    Args:
        name: Path, or name of a shipped recipe.
        overrides: ``section.key=value``; the value is read as YAML 1.2.

    Raises:
        RecipeError: With all problems of the file in one message.
    """
    path = find_recipe(name)
    values = _read(path)
    for override in overrides:
        _apply(values, override)
    return _checked(values, path)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe without filling it from the run's weights.

    Raises:
        RecipeError: With all problems of the file in one message.
    """
    return _validated(_read(path), path)


def recipe_of(values: Mapping[str, Any], overrides: Sequence[str], *, where: Path) -> Recipe:
    """Make a recipe from the result of ``model_dump``, with overrides.

    Args:
        values: As JSON.
        overrides: ``section.key=value``.
        where: Their file, for messages.

    Raises:
        RecipeError: With all problems in one message.
    """
    copied = copy.deepcopy(dict(values))
    for override in overrides:
        _apply(copied, override)
    return _checked(copied, where)


def update_recipe(path: Path, changes: Mapping[str, Any], *, to: Path | None = None) -> None:
    """Change values in a recipe file, keeping comments and order.

    Args:
        path: The recipe file.
        changes: Values by ``section.key``; tuples and lists are written on one line.
        to: Output file, instead of the recipe file itself.

    Raises:
        RecipeError: If the file is not a valid recipe, before or after the change, or another process is changing it;
            nothing is written then.
    """
    with locked(to or path, wait_s=PATIENCE_S, error=RecipeError):
        write_atomically(to or path, _changed(path, changes))


def _changed(path: Path, changes: Mapping[str, Any]) -> str:
    """Return the text of a recipe file with changed values."""
    yaml, text = YAML(), io.StringIO()
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    values = _read(path, yaml)
    for key, value in changes.items():
        section, last = key.split(".")
        if values.get(section) is None:
            values[section] = CommentedMap()
        _rename(values[section], key)
        _replace(values[section], last, value)
    yaml.dump(values, text)
    _checked(parse_yaml(text.getvalue(), name=str(path)), path)
    return text.getvalue()


def _rename(section: Any, key: str) -> None:
    """Rename a former key to its current name, keeping position and comment."""
    old, new = _OLD_NAMES.get(key), key.split(".")[1]
    if old in section and new not in section:
        comment = section.ca.items.pop(old, None)
        section.insert(list(section).index(old), new, section.pop(old))
        if comment is not None:
            section.ca.items[new] = comment


def _replace(section: Any, key: str, value: Any) -> None:
    if not isinstance(value, list | tuple):
        section[key] = value
        return
    old = section.get(key)
    # A comment after a list belongs to the list, so the list is kept and its items are replaced.
    items = old if isinstance(old, CommentedSeq) else CommentedSeq()
    items[:] = list(value)
    items.fa.set_flow_style()
    section[key] = items


def _read(path: Path, yaml: YAML | None = None) -> Any:
    try:
        values = load_yaml(path, name=str(path), yaml=yaml)
    except FileContentError as error:
        raise RecipeError(str(error)) from error
    if not isinstance(values, dict):
        found = "nothing" if values is None else type(values).__name__
        raise RecipeError(f"{path}: a recipe is a table of sections, found {found}.")
    return values


def _checked(values: Any, path: Path) -> Recipe:
    return _validated(with_upsampling(with_architecture(values, where=path)), path)


def _validated(values: Any, path: Path) -> Recipe:
    try:
        recipe = Recipe.model_validate(values)
    except pydantic.ValidationError as error:
        found = [one for one in error.errors() if not _follows(one)]
        raise RecipeError(f"{path}: " + join_first(map(_sentence, found), max_parts=MAX_PROBLEMS)) from error
    if wrong := list(_truth_values(values, recipe.model_dump())):
        raise RecipeError(f"{path}: {join_first(wrong, max_parts=MAX_PROBLEMS)}")
    return recipe


def _follows(error: Any) -> bool:
    """Return whether a list is said to be too short only because one of its items is wrong."""
    return bool(error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"])


def _truth_values(given: Any, kept: Any, place: str = "") -> Iterator[str]:
    """Describe true and false that were read as the numbers 1 and 0."""
    if isinstance(given, bool) and isinstance(kept, int | float) and not isinstance(kept, bool):
        yield f"{place}: Input should be a number, found {str(given).lower()}"
    elif isinstance(given, Mapping) and isinstance(kept, Mapping):
        for key in given.keys() & kept.keys():
            yield from _truth_values(given[key], kept[key], f"{place}.{key}" if place else str(key))
    elif isinstance(given, list | tuple) and isinstance(kept, list | tuple):
        for number, pair in enumerate(zip(given, kept, strict=False)):
            yield from _truth_values(*pair, f"{place}.{number}")


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"override {short_repr(override)}: write section.key=value, such as training.crops=20000.")
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise RecipeError(f"override {short_repr(override)}: {section} is a single value, not a section.")
    try:
        values[last] = parse_yaml(text, name="value")
    except FileContentError as error:
        raise RecipeError(f"override {short_repr(override)}: the value is {error.why}.") from error


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if not str(part).startswith("<"))
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        how = "Remove it or correct its spelling (`cytoseg recipe explain` lists all keys)"
        return f"{where}: unknown key{meant(where)}. {how}"
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("dataclass_type", "model_type"):  # pydantic adds the name of one of our classes
        text = "Input should be a valid dictionary"
    if error["type"] == "string_type" and isinstance(error["input"], int | float | date):
        text += ", in quotes"
    if error["type"] == "tuple_type":  # YAML has lists
        text = "Input should be a list, such as [a, b]"
    return f"{where}: {text}, found {short_repr(error['input'])}" if where else text


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML with all values, including defaults."""
    return _yaml_of(json.dumps(recipe.model_dump(mode="json")))


@functools.lru_cache(maxsize=64)
def _yaml_of(values: str) -> str:
    """Return JSON as YAML; cached, because writing 150 values takes as long as reading the recipe three times."""
    yaml, text = YAML(), io.StringIO()
    yaml.width = 4096
    yaml.dump(json.loads(values), text)
    return text.getvalue()
