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
