"""Quoting untrusted text in messages: printable and short."""

from collections.abc import Iterable

MAX_LINE = 480
"""Most characters of a message line; with the prefix ``cytoseg: `` it stays under 500."""

_SHOWN = 60
_TAIL = 170


def printable(text: str) -> str:
    """Escape control, bidirectional and unassigned characters, which a terminal would obey or reorder.

    Args:
        text: One line; a line break is escaped too.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_line(text: str, *, most: int = MAX_LINE) -> str:
    """Return one printable line: line breaks become spaces, and the middle of a long text is dropped.

    The beginning says what is wrong and where, the end what to do: both are kept.

    Args:
        text: Of any length.
        most: Characters of the line, at least 200.
    """
    if len(text) > 4 * most:  # escaping megabytes of text would take seconds
        text = f"{text[: 2 * most]} ... {text[-2 * most :]}"
    line = printable(" ".join(part.strip() for part in text.splitlines()))
    return line if len(line) <= most else f"{line[: most - _TAIL - 5]} ... {line[-_TAIL:]}"


def shown(value: object, *, most: int = _SHOWN) -> str:
    """Return the repr of a value, printable and at most ``most`` characters long."""
    if isinstance(value, str | bytes):
        value = value[: most + 1]
    elif isinstance(value, list | tuple | dict | set) and len(value) > most:
        return f"{type(value).__name__} of {len(value):,}"
    try:
        text = printable(repr(value))
    except (ValueError, RecursionError):  # an integer of thousands of digits, or a recursive value
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= most else text[: most - 3] + "..."


def listed(parts: Iterable[str], *, most: int, between: str = "; ") -> str:
    """Join the first parts and count the rest: ``a; b and 3 more``."""
    found = list(parts)
    left = len(found) - most
    return between.join(found[:most]) + (f" and {left} more" if left > 0 else "")
