"""The errors that a user can cause. Only the command line catches them."""

from collections.abc import Sequence

from cytoseg.quoting import join_first, one_line

MAX_PROBLEMS = 50
"""At most this many problems are listed; the rest are counted."""


class _Lines(str):
    """A message of several lines, each printed as it is."""


class CytosegError(Exception):
    """An error that the user can fix: what is wrong, where, what was found and what to do.

    The message is one printable line of at most ``quoting.MAX_LINE`` characters, whatever it quotes, or several
    such lines from ``report``.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(message if isinstance(message, _Lines) else one_line(str(message)))


class FileContentError(CytosegError, ValueError):
    """A text file is damaged or too large; callers that tolerate damaged files catch it as a ValueError.

    Attributes:
        why: What is wrong, without the file's name: ``is not UTF-8 text``.
    """

    why: str = ""


class RecipeError(CytosegError):
    """The recipe, or an override of it, is wrong."""


class SlideError(CytosegError):
    """A slide cannot be found, opened or read."""


class LabelError(CytosegError):
    """Annotations or label maps are wrong or missing."""


class CheckpointError(CytosegError):
    """A checkpoint or bundle is missing, damaged or of a different architecture."""


class DamagedError(CheckpointError):
    """A checkpoint's files are truncated, changed or missing; an older checkpoint may still be intact."""


class ArrayError(CytosegError, ValueError):
    """An array or argument passed to the Python API is not supported."""


class PredictionError(CytosegError):
    """A prediction cannot be made or written."""


def report(problems: Sequence[str], *, what: str) -> str:
    """Join all problems of one run into one message.

    Args:
        problems: One sentence each; a single one is returned as it is.
        what: What was being done, for the headline, such as ``label-import``.

    Returns:
        The message: one line for one problem, otherwise a headline with the count and a line for each.
    """
    if len(problems) == 1:
        return problems[0]
    lines = [f"{what}: {len(problems)} problems, nothing was written.", *(f"  {p}" for p in problems[:MAX_PROBLEMS])]
    if len(problems) > MAX_PROBLEMS:
        lines.append(f"  and {len(problems) - MAX_PROBLEMS} more")
    return _Lines("\n".join(line[:2] + one_line(line[2:]) for line in lines))


def together(problems: Sequence[str]) -> list[str]:
    """Merge equal problems of several files into one sentence.

    Args:
        problems: ``name: what is wrong``, one for each file.

    Returns:
        Problems in the order of their first file; ``a.png: what is wrong. The same holds for b.png, c.png, d.png and 28
        more.`` for shared ones.
    """
    alike: dict[str, list[str]] = {}
    for problem in problems:
        name, _, text = problem.partition(": ")
        alike.setdefault(text or problem, []).append(name)
    return [text if text == names[0] else f"{names[0]}: {text}{_same_for(names[1:])}" for text, names in alike.items()]


def _same_for(others: Sequence[str]) -> str:
    """Return a sentence of its own, because a count as the subject would not agree with ``does not state``."""
    return f" The same holds for {join_first(others, max_parts=3, between=', ')}." if others else ""
