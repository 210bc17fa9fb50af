"""Parsing the progress lines of a command."""

import re
from dataclasses import dataclass

_LINE = re.compile(r"(.+?) ([0-9]+) of ([0-9]+), (\S.*?) so far(?:, about (.+?) to go)?(?:, (.*))?")
_ERROR = "cytoseg: "
_MAX_CHARACTERS = 400


@dataclass(frozen=True)
class Progress:
    """Progress of a command.

    Attributes:
        what: Current work, such as ``features``.
        done: Units done.
        total: Total units.
        left: Estimated remaining time as text; empty if unknown.
        note: Additional text, such as the loss.
    """

    what: str
    done: int
    total: int
    left: str
    note: str


def read_line(line: str) -> Progress | None:
    """Parse a line written by ``terminal.Bar.line``; None for any other line."""
    found = _LINE.fullmatch(line.strip())
    if found is None:
        return None
    what, done, total, _, left, note = found.groups()
    return Progress(
        what[:_MAX_CHARACTERS],
        int(done[:15]),
        int(total[:15]),
        (left or "")[:_MAX_CHARACTERS],
        (note or "")[:_MAX_CHARACTERS],
    )


def last_word(before: str, line: str) -> str:
    """Track the line that explains a failure: the command's own error line, otherwise the last line.

    Args:
        before: The line tracked so far.
        line: The next line.
    """
    text = "".join(c if c.isprintable() else " " for c in line).strip()[:_MAX_CHARACTERS]
    if not text or (before.startswith(_ERROR) and not text.startswith(_ERROR)):
        return before
    return text
