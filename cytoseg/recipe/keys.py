"""Recipe keys: names, descriptions and suggestions for misspelt ones."""

import ast
import dataclasses
import difflib
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel

from cytoseg.recipe.schema import Recipe


@dataclass(frozen=True)
class Key:
    """One key of a section.

    Attributes:
        name: Its name.
        section: Class of the section; None for a single value.
        is_required: Whether it is required.
        default: Its default value.
        text: Its description.
    """

    name: str
    section: type | None
    is_required: bool
    default: Any
    text: str


def keys_of(section: type) -> Iterator[Key]:
    """List the keys of a section, a pydantic model or a dataclass."""
    texts = _texts(section)
    for name, annotation, default in _fields(section):
        required = default is dataclasses.MISSING
        yield Key(name, _section(annotation), required, None if required else default, texts.get(name, ""))


def _fields(section: type) -> Iterator[tuple[str, Any, Any]]:
    """List name, type and default of each field; ``MISSING`` where there is no default."""
    if issubclass(section, BaseModel):
        for name, field in section.model_fields.items():
            yield name, field.annotation, dataclasses.MISSING if field.is_required() else field.get_default()
        return
    for of in dataclasses.fields(cast(Any, section)):
        yield of.name, of.type, of.default if of.default_factory is dataclasses.MISSING else of.default_factory()


def _texts(section: type) -> dict[str, str]:
    """Return the docstrings under the fields of a section and its bases.

    Pydantic would read them, too, but each time that a recipe is read.
    """
    found: dict[str, str] = {}
    for part in (cls for cls in section.__mro__ if cls.__module__.startswith("cytoseg.")):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        for field, text in itertools.pairwise(cast(ast.ClassDef, definition).body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(said))):
                    found.setdefault(name, inspect.cleandoc(said))
    return found


def _section(annotation: Any) -> type | None:
    """Return the class of a section; None for a single value."""
    is_section = isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)
    )
    return annotation if is_section else None


_SHORT, _CLOSE, _CLOSE_SHORT = 4, 0.7, 0.6
"""In a word of at most so many letters one wrong letter makes more of a difference: ``mmp`` for ``mpp``."""


def key_names(section: type = Recipe, prefix: str = "") -> Iterator[str]:
    """List all keys and sections, such as ``training.batch``."""
    for key in keys_of(section):
        yield f"{prefix}{key.name}"
        if key.section is not None:
            yield from key_names(key.section, f"{prefix}{key.name}.")


def meant(key: str) -> str:
    """Suggest a key for an unknown one: a similar spelling, or the same name in another section.

    Args:
        key: The key in the recipe, such as ``training.bach``.

    Returns:
        `` (did you mean 'training.batch'?)``, or an empty text.
    """
    section, _, last = key.rpartition(".")
    known = list(key_names())
    elsewhere = [name for name in known if name.rpartition(".")[2] == last]
    if len(elsewhere) == 1:
        return f" (did you mean '{elsewhere[0]}'?)"
    beside = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == section}
    near = difflib.get_close_matches(last, beside, n=1, cutoff=_CLOSE if len(last) > _SHORT else _CLOSE_SHORT)
    return f" (did you mean '{beside[near[0]]}'?)" if near else ""
