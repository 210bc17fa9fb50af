"""Reading untrusted JSON within limits on size, depth and numbers."""

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from cytoseg.errors import FileContentError
from cytoseg.limits import how_to_raise, limit
from cytoseg.quoting import short_repr

Numbers = Literal["finite", "nan as null", "any"]

MAX_DEPTH = 64
"""Deepest nesting of lists and objects; code that walks the values is recursive."""

MAX_WHOLE = 2**63 - 1
"""Largest integer: 64 bits, as in numpy and databases."""

_SIZE = "CYTOSEG_MAX_JSON_MB"
_SURELY_SMALL = 10_000  # bytes: a log line is parsed in microseconds
# Bytes that Python needs for a list or dict, and for an element with its slot.
_CONTAINER_BYTES, _VALUE_BYTES, _TEXT_BYTES = 88, 34, 150
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]")
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_DIGITS_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")
_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")], _STEP[list(b"]}")] = 1, -1


def load_json(path: Path, *, name: str | None = None, numbers: Numbers = "finite") -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.
        name: Its name in messages; the file's own by default.
        numbers: ``finite`` refuses ``NaN``, ``Infinity`` and integers beyond ``MAX_WHOLE``; ``nan as null`` is the
            same but reads ``NaN`` as null, which old evaluations wrote; ``any`` is for files of other programs, whose
            reader checks each number that it uses.

    Returns:
        The parsed value.

    Raises:
        FileContentError: If it is not a regular file, is too large or is not JSON, see ``parse_json``; also a
            ValueError.
        OSError: If it is missing or may not be read.
    """
    called = name or path.name
    return parse_json(
        read_regular(path, name=called, max_bytes=limit(_SIZE) * 333_333, variable=_SIZE),
        name=called,
        numbers=numbers,
    )


def read_regular(path: Path, *, name: str, max_bytes: int, variable: str) -> bytes:
    """Read a whole file after checking its type and size.

    Args:
        path: The file.
        name: Its name in messages.
        max_bytes: Size limit in bytes.
        variable: Environment variable that raises the limit.

    Raises:
        FileContentError: If it is a pipe, a device, a folder or too large.
        OSError: If it is missing or may not be read.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise damaged(name, "is not a regular file")
    if found.st_size > max_bytes:
        raise damaged(name, f"is {found.st_size / 1e6:,.1f} MB long. {how_to_raise(variable)}".rstrip("."))
    return path.read_bytes()


def parse_json(content: bytes | str, *, name: str, numbers: Numbers = "finite") -> Any:
    """Parse JSON after checking its depth and size.

    Args:
        content: UTF-8 bytes, or text.
        name: Its name in messages.
        numbers: See ``load_json``.

    Raises:
        FileContentError: If it is not complete JSON in UTF-8, is nested deeper than ``MAX_DEPTH``, contains numbers
            that ``numbers`` refuses, a lone surrogate or a key twice with different values, or would take more memory
            than CYTOSEG_MAX_JSON_MB.
    """
    try:
        data = content.encode() if isinstance(content, str) else content
        text = data.decode("utf-8-sig")
    except UnicodeError as error:
        raise damaged(name, f"is not UTF-8 text ({error.reason})") from error  # type: ignore[attr-defined] # both kinds have one
    if len(data) > _SURELY_SMALL:
        _check_size(data, name)
    if b"\\u" in data and _HALF.search(_PAIR.sub(b"", data)):
        raise damaged(name, "holds a lone surrogate, which is half a character")
    bare = _STRING.sub(b"", data)
    _check_depth(bare, name)
    try:
        value: Any = _decoder(bare, numbers).decode(text)
    except (ValueError, RecursionError) as error:
        raise damaged(name, f"is cut off or damaged ({error})") from error
    return value


def damaged(name: str, why: str) -> FileContentError:
    """Make the error for a file; ``why`` follows its name in the sentence, without a full stop."""
    error = FileContentError(f"{name}: {why}.")
    error.why = why
    return error


def _check_size(data: bytes, name: str) -> None:
    """Refuse what would take too much memory; brackets and commas inside strings are counted too."""
    containers, values = data.count(b"[") + data.count(b"{"), data.count(b",") + data.count(b":")
    highest = int(np.frombuffer(data, np.uint8).max(initial=0))
    width = 1 if highest < 0xC4 else 2 if highest < 0xF0 else 4  # bytes per character
    needed = (1 + 2 * width) * len(data)  # the bytes, the text, and one long string in it
    needed += _CONTAINER_BYTES * containers + _VALUE_BYTES * values + _TEXT_BYTES * data.count(b'"') // 2
    if needed > limit(_SIZE) * 1_000_000:
        raise damaged(name, f"would take {needed / 1e6:,.0f} MB of memory. {how_to_raise(_SIZE)}".rstrip("."))


def _check_depth(bare: bytes, name: str) -> None:
    only = bare.translate(None, _NOT_BRACKETS)
    if len(only) <= MAX_DEPTH:
        return
    brackets, depth = np.frombuffer(only, np.uint8), 0
    for start in range(0, len(brackets), 1_000_000):
        depths = depth + np.cumsum(_STEP[brackets[start : start + 1_000_000]], dtype=np.int64)
        if depths.max() > MAX_DEPTH:
            raise damaged(name, f"is cut off or damaged (lists or tables more than {MAX_DEPTH} deep)")
        depth = int(depths[-1])


def _decoder(bare: bytes, numbers: Numbers) -> json.JSONDecoder:
    """Return a decoder that checks each number only if one may be too long, because the check is slow."""
    if numbers == "any":
        return json.JSONDecoder(object_pairs_hook=_with_unique_keys)
    alike = bare.translate(_DIGITS_ALIKE)
    suspicious = b"0" * 19 in alike or b"0e" in alike
    looked_at: dict[str, Any] = {"parse_int": _whole, "parse_float": _finite} if suspicious else {}
    of_constants = _null_if_nan if numbers == "nan as null" else _refuse_constant
    return json.JSONDecoder(object_pairs_hook=_with_unique_keys, parse_constant=of_constants, **looked_at)


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its pairs; one of two different values would be lost without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if found[key] != value:
                raise ValueError(f"the key {short_repr(key)} is there twice with different values")
    return found


def _whole(text: str) -> int:
    if len(text) > 20 or not -MAX_WHOLE <= int(text) <= MAX_WHOLE:
        raise ValueError(f"a whole number of {len(text.lstrip('-'))} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _null_if_nan(text: str) -> None:
    if text != "NaN":
        _refuse_constant(text)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")
