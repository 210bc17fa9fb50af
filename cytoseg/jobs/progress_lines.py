"""How far a command is, read from the lines that it prints into a pipe."""

import re
from dataclasses import dataclass

_LINE = re.compile(r"(.+?) ([0-9]+) of ([0-9]+), (\S.*?) so far(?:, about (.+?) to go)?(?:, (.*))?")
_ERROR = "cytoseg: "
_MOST = 400


@dataclass(frozen=True)
class Progress:
    """How far a command is.

    Attributes:
        what: What is being done, such as ``features``.
        done: So much of it.
        total: Of so much.
        left: How long the rest takes about, in words; empty if nobody knows.
        note: What the command adds, such as the loss.
    """

    what: str
    done: int
    total: int
    left: str
    note: str


def read_line(line: str) -> Progress | None:
    """Read a line as ``commands.terminal.Bar.line`` writes it; None for any other."""
    found = _LINE.fullmatch(line.strip())
    if found is None:
        return None
    what, done, total, _, left, note = found.groups()
    return Progress(what[:_MOST], int(done[:15]), int(total[:15]), (left or "")[:_MOST], (note or "")[:_MOST])


def last_word(before: str, line: str) -> str:
    """Keep of a command's lines the one that says why it failed: the command's own, or else the last.

    Args:
        before: What was kept so far.
        line: The next line.
    """
    text = "".join(c if c.isprintable() else " " for c in line).strip()[:_MOST]
    if not text or (before.startswith(_ERROR) and not text.startswith(_ERROR)):
        return before
    return text
