"""Expanding slide arguments: files, folders, globs and list files."""

import os
from collections.abc import Sequence
from pathlib import Path

from cytoseg.errors import SlideError, report
from cytoseg.patterns import globbed_anywhere, on_disk
from cytoseg.slides.ngff import is_slide_folder
from cytoseg.slides.open import can_be_slide, find_slides

LIST_SUFFIX = ".txt"
_NO_KEY = frozenset("/\\*?~")
"""Characters that no key of a recipe holds."""


def without_overrides(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell slides from overrides among the arguments of a command.

    A slide's name may contain an equals sign: what exists is a slide, and so is what has a slash or a wildcard before
    the sign, or nothing.

    Returns:
        Slides for `expand`, and overrides (``section.key=value``).
    """
    overrides = [text for text in texts if _is_override(text)]
    return [text for text in texts if text not in overrides], overrides


def _is_override(text: str) -> bool:
    key, equals, _ = text.partition("=")
    return bool(key and equals) and _NO_KEY.isdisjoint(key) and not os.path.exists(on_disk(Path(text)))


def expand(texts: Sequence[str], *, command: str) -> list[Path]:
    """Return the slides without duplicates, in the order of the arguments.

    Args:
        texts: Files, and OME-Zarr folders; other folders, for the slides directly in them; globs, for the matching
            slides; .txt files with one of these per line, without empty lines and lines starting with #.
        command: The command, for messages.

    Returns:
        Paths as given; a slide given twice, relative and absolute, as given first.

    Raises:
        SlideError: If a file is missing, a folder or glob has no slides, or there are no arguments; lists all problems.
    """
    problems: list[str] = []
    paths = [path for text in texts for path in _expand(text, problems)]
    if not texts:
        problems.append(f"{command}: no slide was named.")
    if problems:
        raise SlideError(report(problems, what=command))
    once: dict[Path, Path] = {}
    for path in paths:
        # Keep the symlink's own name, which also names the results.
        once.setdefault(path.parent.resolve() / path.name, path)
    return list(once.values())


def _expand(text: str, problems: list[str], within: tuple[Path, ...] = ()) -> list[Path]:
    """Expand an argument, or a line of the lists that are being read."""
    path = on_disk(Path(text))
    try:
        if path.is_dir() and not is_slide_folder(path):
            return find_slides([path])
        if path.suffix.lower() == LIST_SUFFIX and path.is_file():
            if path.resolve() in within:
                raise SlideError(f"{path}: this list of slides names itself. Remove that line.")
            lists = (*within, path.resolve())
            return [found for line in _lines(path) for found in _expand(line, problems, lists)]
    except SlideError as error:
        problems.append(str(error))
        return []
    if path.exists():
        return [path]
    found = [hit for hit in globbed_anywhere(text) if can_be_slide(hit)]
    if not found:
        problems.append(f"{text}: no such file, and no slide matches it as a glob. Check the path.")
    return found


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # as Windows writes it
    except UnicodeDecodeError as error:
        raise SlideError(f"{path}: is not a list of slides, because it is not text.") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
