"""Reading untrusted YAML 1.2 within limits on size, depth and aliases."""

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cytoseg.json_text import MAX_WHOLE, damaged, read_regular
from cytoseg.limits import how_to_raise, limit

MAX_DEPTH = 32
"""Deepest nesting of lists and mappings."""

MAX_VALUES = 100_000
"""Most values, aliases expanded: nine lines of nested aliases make a billion."""

MAX_MERGED = 30
"""Most aliases in a text with merge keys, which are expanded while parsing."""

MAX_BRACKETS = 10_000
"""Most opening brackets: the parser takes longer with each that is open, seconds for a line of a thousand."""

_MAX_OPEN = 3 * MAX_DEPTH  # before parsing; brackets in quotes and comments count too
_BRACKET = re.compile(r"[\[\]{}]")
_ALIAS = re.compile(r"(?<![^\s\[,])\*\w")
_TOO_DEEP = f"not YAML (lists or tables within each other more than {MAX_DEPTH} deep)"
_HALF = re.compile("[\ud800-\udfff]")
_SIZE = "CYTOSEG_MAX_YAML_KB"
# Raised by the library on crafted text besides its own errors: impossible dates, unhashable keys, wrong tags.
_ODD = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError, RecursionError)


def load_yaml(path: Path, *, name: str | None = None, yaml: YAML | None = None) -> Any:
    """Read a YAML file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.
        name: Its name in messages; the file's own by default.
        yaml: A parser that keeps comments; by default one that returns plain values.

    Returns:
        The parsed value.

    Raises:
        FileContentError: If it is not a regular file, is too large or is not YAML, see ``parse_yaml``; also a
            ValueError.
        OSError: If it is missing or may not be read.
    """
    called = name or path.name
    data = read_regular(path, name=called, max_bytes=limit(_SIZE) * 1000, variable=_SIZE)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise damaged(called, f"not YAML ({error})") from error
    return parse_yaml(text, name=called, yaml=yaml)


def parse_yaml(text: str, *, name: str, yaml: YAML | None = None) -> Any:
    """Parse YAML and check its depth and size; duplicate keys are refused.

    Args:
        text: The YAML.
        name: Its name in messages.
        yaml: See ``load_yaml``.

    Raises:
        FileContentError: If it is not YAML, is too long (CYTOSEG_MAX_YAML_KB), is nested deeper than ``MAX_DEPTH``,
            or contains more than ``MAX_VALUES`` values, more than ``MAX_BRACKETS`` brackets or integers beyond 64 bits.
    """
    if _HALF.search(text):  # such as bytes of another encoding on the command line
        raise damaged(name, "not YAML (a lone surrogate, which is half a character)")
    if len(text) > limit(_SIZE) * 1000:
        raise damaged(name, f"is {len(text) / 1e6:,.1f} MB long. {how_to_raise(_SIZE)}".rstrip("."))
    if "<<" in text and len(_ALIAS.findall(text)) > MAX_MERGED:
        raise damaged(name, f"not YAML (merge keys beside more than {MAX_MERGED} aliases)")
    _check_brackets(text, name)
    try:
        value: Any = (yaml or YAML(typ="safe", pure=True)).load(text)
    except (YAMLError, *_ODD) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise damaged(name, f"not YAML ({why})") from error
    _check(value, name)
    return value


def _check_brackets(text: str, name: str) -> None:
    """Refuse text that would take the parser long: with very many brackets, or many within each other."""
    opened = depth = 0
    for bracket in _BRACKET.findall(text):
        is_opening = bracket in "[{"
        opened += is_opening
        depth = max(0, depth + (1 if is_opening else -1))
        if depth > _MAX_OPEN:
            raise damaged(name, _TOO_DEEP)
        if opened > MAX_BRACKETS:
            raise damaged(name, f"not YAML (more than {MAX_BRACKETS:,} opening brackets)")


def _check(value: Any, name: str) -> None:
    """Check all values iteratively: an alias may form a cycle."""
    waiting, seen = [(value, 1)], 0
    while waiting:
        part, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH:
            raise damaged(name, _TOO_DEEP)
        if seen > MAX_VALUES:
            raise damaged(name, f"not YAML (more than {MAX_VALUES:,} values, counting those repeated by aliases)")
        if isinstance(part, dict):
            waiting += [(inner, depth + 1) for pair in part.items() for inner in pair]
        elif isinstance(part, set | bytes):  # a set has another order in each process
            raise damaged(name, f"not YAML (a {type(part).__name__} value; write a list or text)")
        elif isinstance(part, list | tuple):
            waiting += [(inner, depth + 1) for inner in part]
        elif isinstance(part, str) and not part.isascii() and _HALF.search(part):
            raise damaged(name, "not YAML (a lone surrogate, which is half a character)")
        elif isinstance(part, str) and "\0" in part:
            raise damaged(name, "not YAML (a text with a null character)")
        elif isinstance(part, int) and abs(part) > MAX_WHOLE:
            raise damaged(name, "not YAML (a whole number of more than 19 digits)")
