"""Patterns of names, in which square brackets are first what they are in names: brackets."""

import glob
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import TypeVar

_Found = TypeVar("_Found", str, Path)


def literal(pattern: str) -> str:
    """Return the pattern in which square brackets stand for themselves."""
    return pattern.replace("[", "[[]")


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name is one of some names, or fits one of some patterns by either meaning of brackets."""
    return any(name == text or fnmatchcase(name, literal(text)) or fnmatchcase(name, text) for text in patterns)


def fitting(names: Sequence[str], pattern: str) -> list[str]:
    """Find what a pattern means among names.

    Args:
        names: All there are.
        pattern: A name; or one with ``*`` and ``?``, brackets standing for themselves; or, if nothing fits so, one in
            which ``[ab]`` stands for one of these characters.

    Returns:
        The names, in their order: the very name alone, where it is one.
    """
    if pattern in names:
        return [pattern]
    return _either(lambda text: [name for name in names if fnmatchcase(name, text)], pattern)


def excluded(paths: Iterable[Path], pattern: str) -> set[Path]:
    """Find the paths whose end fits a pattern, as `fitting` does for names."""
    every = list(paths)
    return set(_either(lambda text: [path for path in every if path.match(text)], pattern))


def globbed(folder: Path, pattern: str) -> list[Path]:
    """Find what a pattern means in a folder: the very path if it is one, else as `fitting` does.

    Raises:
        ValueError: If it cannot be a pattern there, such as a whole path.
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
    """Find the paths that a pattern means, which may be whole or relative to the current folder; sorted."""
    try:
        return _either(lambda text: [Path(hit) for hit in sorted(glob.glob(text, recursive=True))], pattern)
    except (OSError, ValueError):  # such as too long a name, or a zero in it
        return []


def _either(find: Callable[[str], list[_Found]], pattern: str) -> list[_Found]:
    found = find(literal(pattern))
    return found if found or "[" not in pattern else find(pattern)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
