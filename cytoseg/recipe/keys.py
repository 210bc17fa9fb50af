"""The names of all keys of a recipe, and which one a misspelt one may have meant."""

import difflib
from collections.abc import Iterator

from pydantic import BaseModel

from cytoseg.recipe.schema import Recipe


def key_names(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """List every key and section, such as ``training.batch``."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from key_names(field.annotation, f"{prefix}{name}.")


def meant(key: str) -> str:
    """Propose the key that an unknown one may have meant: its neighbour by spelling, or its name in another section.

    Args:
        key: As it stands in the recipe, such as ``training.bach``.

    Returns:
        `` (did you mean 'training.batch'?)``, or nothing.
    """
    section, _, last = key.rpartition(".")
    known = list(key_names())
    elsewhere = [name for name in known if name.rpartition(".")[2] == last]
    if len(elsewhere) == 1:
        return f" (did you mean '{elsewhere[0]}'?)"
    beside = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == section}
    near = difflib.get_close_matches(last, beside, n=1, cutoff=0.7)
    return f" (did you mean '{beside[near[0]]}'?)" if near else ""
