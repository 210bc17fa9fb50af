"""The errors that a user can cause. Only the command line catches them."""

from collections.abc import Sequence


class CytosegError(Exception):
    """Something that the user can put right: says what is wrong, where, what was found and what to do."""


class RecipeError(CytosegError):
    """The recipe, or an override of it, is wrong."""


class SlideError(CytosegError):
    """A slide cannot be found, opened or read."""


class LabelError(CytosegError):
    """Annotations or label maps are wrong or missing."""


class CheckpointError(CytosegError):
    """A checkpoint or bundle is missing, damaged or of another architecture."""


class DamagedError(CheckpointError):
    """A checkpoint's files are cut short, changed or missing: an older one may still be whole."""


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
    return "\n".join([f"{what}: {len(problems)} problems, nothing was written.", *(f"  {p}" for p in problems)])


def together(problems: Sequence[str], *, noun: str) -> list[str]:
    """Say once what is wrong with several files alike.

    Args:
        problems: ``name: what is wrong``, one for each file.
        noun: What the files are, such as ``slides``.

    Returns:
        Problems in the order of their first file; ``32 slides: what is wrong (a.png, b.png, c.png and 29 more)`` for
        what several have.
    """
    alike: dict[str, list[str]] = {}
    for problem in problems:
        name, _, text = problem.partition(": ")
        alike.setdefault(text or problem, []).append(name)
    return [
        f"{names[0]}: {text}" if len(names) == 1 and text != names[0] else _of_several(names, text, noun)
        for text, names in alike.items()
    ]


def _of_several(names: Sequence[str], text: str, noun: str) -> str:
    if len(names) == 1:
        return text
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} {noun}: {text} ({', '.join(names[:3])}{more})"
