"""Glob patterns in which square brackets are first tried as literal characters."""

import glob
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import TypeVar

_Found = TypeVar("_Found", str, Path)


def literal(pattern: str) -> str:
    """Return the pattern with its square brackets escaped."""
    return pattern.replace("[", "[[]")


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name equals or matches one of the patterns, with brackets literal or as a set."""
    return any(name == text or fnmatchcase(name, literal(text)) or fnmatchcase(name, text) for text in patterns)


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
    return _either(lambda text: [name for name in names if fnmatchcase(name, text)], pattern)


def excluded(paths: Iterable[Path], pattern: str) -> set[Path]:
    """Find the paths whose end matches a pattern, as `fitting` does for names."""
    every = list(paths)
    return set(_either(lambda text: [path for path in every if path.match(text)], pattern))


def globbed(folder: Path, pattern: str) -> list[Path]:
    """Find the paths in a folder that match a pattern: the exact path if it exists, otherwise as `fitting` does.

    Raises:
        ValueError: If it is not a pattern within the folder, such as an absolute path.
    """
    if not pattern or "\0" in pattern or not PurePath(pattern).parts or PurePath(pattern).is_absolute():
        raise ValueError("not a pattern within a folder")
    if _exists(folder / pattern):
        return [folder / pattern]
    try:
        return _either(lambda text: list(folder.glob(text)), pattern)
    except (ValueError, NotImplementedError, IndexError) as error:
        raise ValueError(str(error)) from error
    except OSError:  # such as too long a name
        return []


def globbed_anywhere(pattern: str) -> list[Path]:
    """Find the paths that match an absolute or relative pattern; sorted."""
    try:
        return _either(lambda text: [Path(hit) for hit in sorted(glob.glob(text, recursive=True))], pattern)
    except (OSError, ValueError):  # for example a name that is too long or has a null character
        return []


def _either(find: Callable[[str], list[_Found]], pattern: str) -> list[_Found]:
    found = find(literal(pattern))
    return found if found or "[" not in pattern else find(pattern)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
