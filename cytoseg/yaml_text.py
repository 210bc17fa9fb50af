"""Reading YAML 1.2 written by hand: within limits, or refused in one line."""

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cytoseg.json_text import MAX_WHOLE, damaged, read_regular
from cytoseg.limits import limit, raise_it

MAX_DEPTH = 32
"""Lists and tables within each other."""

MAX_VALUES = 100_000
"""With everything that an alias repeats: nine lines of aliases to aliases make a billion."""

MAX_MERGED = 30
"""Aliases in a text with merge keys: those are multiplied while it is read."""

_ALIAS = re.compile(r"(?<![^\s\[,])\*\w")
_SIZE = "CYTOSEG_MAX_YAML_KB"
# What the library raises on crafted text besides its own errors: dates that do not exist, unhashable keys, wrong tags.
_ODD = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError, RecursionError)


def load_yaml(path: Path, *, name: str | None = None, yaml: YAML | None = None) -> Any:
    """Read a YAML file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.
        name: What to call it in a message; its own name by default.
        yaml: A reader that keeps comments; by default one that gives plain values.

    Returns:
        What it holds.

    Raises:
        FileContentError: If it is not a regular file, too large or no YAML, see ``parse_yaml``. It is a ValueError too.
        OSError: If it is missing or may not be read.
    """
    called = name or path.name
    data = read_regular(path, name=called, most_bytes=limit(_SIZE) * 1000, variable=_SIZE)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise damaged(called, f"not YAML ({error})") from error
    return parse_yaml(text, name=called, yaml=yaml)


def parse_yaml(text: str, *, name: str, yaml: YAML | None = None) -> Any:
    """Read YAML, and look at how deep and how large it is; a key that appears twice in one table is refused.

    Args:
        text: The YAML.
        name: What to call it in a message.
        yaml: See ``load_yaml``.

    Raises:
        FileContentError: If it is not a YAML; too long (CYTOSEG_MAX_YAML_KB); nested deeper than ``MAX_DEPTH``; holds
            more than ``MAX_VALUES``, or whole numbers beyond 64 bits.
    """
    if len(text) > limit(_SIZE) * 1000:
        raise damaged(name, f"is {len(text) / 1e6:,.1f} MB long. {raise_it(_SIZE)}".rstrip("."))
    if "<<" in text and len(_ALIAS.findall(text)) > MAX_MERGED:
        raise damaged(name, f"not YAML (merge keys beside more than {MAX_MERGED} aliases)")
    try:
        value: Any = (yaml or YAML(typ="safe", pure=True)).load(text)
    except (YAMLError, *_ODD) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise damaged(name, f"not YAML ({why})") from error
    _check(value, name)
    return value


def _check(value: Any, name: str) -> None:
    """Go through all values without calling itself: an alias may lead back to where it stands."""
    waiting, seen = [(value, 1)], 0
    while waiting:
        part, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH:
            raise damaged(name, f"not YAML (lists or tables within each other more than {MAX_DEPTH} deep)")
        if seen > MAX_VALUES:
            raise damaged(name, f"not YAML (more than {MAX_VALUES:,} values, those that aliases repeat included)")
        if isinstance(part, dict):
            waiting += [(inner, depth + 1) for pair in part.items() for inner in pair]
        elif isinstance(part, list | tuple | set):
            waiting += [(inner, depth + 1) for inner in part]
        elif isinstance(part, str) and "\0" in part:
            raise damaged(name, "not YAML (a text with a null character)")
        elif isinstance(part, int) and abs(part) > MAX_WHOLE:
            raise damaged(name, "not YAML (a whole number of more than 19 digits)")
