"""Glob patterns in which square brackets are first tried as literal characters."""

import glob
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import TypeVar

NOT_UNICODE = "the name is not UTF-8. Rename the file, for example with: convmv -f latin1 -t utf-8 --notest FOLDER -r"
"""Message for a file for which ``is_unicode`` is false."""

_Found = TypeVar("_Found", str, Path)


def plain_name(name: str) -> str:
    """Return a name for comparison: lower case, accents in composed form."""
    return composed(name).lower()


def composed(name: str) -> str:
    """Return a name with composed accents (NFC); a Mac may store them decomposed (NFD)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_unicode(name: str) -> bool:
    """Return whether a file name is UTF-8; Linux allows any bytes, which no JSON, YAML or table can hold."""
    return name.isascii() or not re.search("[\ud800-\udfff]", name)


def literal(pattern: str) -> str:
    """Return the pattern with its square brackets escaped."""
    return pattern.replace("[", "[[]")


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name equals or matches one of the patterns, with brackets literal or as a set."""
    plain = composed(name)
    return any(
        plain == text or fnmatchcase(plain, literal(text)) or fnmatchcase(plain, text)
        for text in map(composed, patterns)
    )


def fitting(names: Sequence[str], pattern: str) -> list[str]:
    """Find the names that match a pattern.

    Args:
        names: The candidates.
        pattern: A name or a glob with ``*`` and ``?``. Brackets are literal; only if nothing matches, ``[ab]`` stands
            for one of these characters.

    Returns:
        The matching names in their order; only the exact name if there is one.
    """
    if pattern in names:
        return [pattern]
    plain = composed(pattern)
    if exact := [name for name in names if composed(name) == plain]:
        return exact
    return _either(lambda text: [name for name in names if fnmatchcase(composed(name), text)], plain)


def excluded(paths: Iterable[Path], pattern: str) -> set[Path]:
    """Find the paths whose end matches a pattern, as `fitting` does for names."""
    every = list(paths)
    return set(_either(lambda text: [path for path in every if _composed_path(path).match(text)], composed(pattern)))


def globbed(folder: Path, pattern: str) -> list[Path]:
    """Find the paths in a folder that match a pattern: the exact path if it exists, otherwise as `fitting` does.

    Raises:
        ValueError: If it is not a pattern within the folder, such as an absolute path.
    """
    if not pattern or "\0" in pattern or not PurePath(pattern).parts or PurePath(pattern).is_absolute():
        raise ValueError("not a pattern within a folder")
    spellings = _spellings(pattern)
    if exact := [folder / text for text in spellings if _exists(folder / text)]:
        return exact
    try:
        return _first(lambda text: _either(lambda other: list(folder.glob(other)), text), spellings)
    except (ValueError, NotImplementedError, IndexError) as error:
        raise ValueError(str(error)) from error
    except OSError:  # such as name too long
        return []


def globbed_anywhere(pattern: str) -> list[Path]:
    """Find the paths that match an absolute or relative pattern, also below ``~``; sorted."""
    try:
        return _first(
            lambda text: _either(lambda other: [Path(hit) for hit in sorted(glob.glob(other, recursive=True))], text),
            (*_spellings(pattern), os.path.expanduser(pattern)),
        )
    except (OSError, ValueError):  # for example a name that is too long or has a null character
        return []


def on_disk(path: Path) -> Path:
    """Return where a path lies that does not exist as typed: below ``~``, or with accents in another form.

    Args:
        path: As typed, for example in a recipe, where no shell replaces ``~``.

    Returns:
        The path that exists; the path as typed if there is none, or several.
    """
    if _exists(path):
        return path
    try:
        home = path.expanduser()
        return _spelt(home) or (home if _exists(home) else path)
    except (OSError, RuntimeError, ValueError):  # an unknown user, a folder that may not be read, or no path
        return path


def _spelt(path: Path) -> Path | None:
    """Follow a path through names that are equal but for the form of their accents; None if there is not one."""
    if str(path).isascii():
        return None
    place = Path(path.anchor)
    for part in path.parts[len(place.parts) :]:
        if not _exists(place / part):
            alike = [child.name for child in place.iterdir() if composed(child.name) == composed(part)]
            if len(alike) != 1:
                return None
            part = alike[0]
        place = place / part
    return place


def _composed_path(path: Path) -> PurePath:
    text = str(path)
    return path if text.isascii() else PurePath(composed(text))


def _spellings(pattern: str) -> tuple[str, ...]:
    """Return a pattern as typed, and with its accents composed and decomposed."""
    if pattern.isascii():
        return (pattern,)
    return tuple(dict.fromkeys((pattern, composed(pattern), unicodedata.normalize("NFD", pattern))))


def _first(find: Callable[[str], list[_Found]], patterns: Iterable[str]) -> list[_Found]:
    return next((found for text in patterns if (found := find(text))), [])


def _either(find: Callable[[str], list[_Found]], pattern: str) -> list[_Found]:
    found = find(literal(pattern))
    return found if found or "[" not in pattern else find(pattern)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
