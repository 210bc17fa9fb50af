"""Quoting untrusted text in messages: printable, short and without passwords."""

import re
from collections.abc import Iterable

MAX_LINE = 480
"""Most characters of a message line; with the prefix ``cytoseg: `` it stays under 500."""

_MAX_REPR = 60
_TAIL = 170
_LONGEST_URL = 2000
_PASSWORD = re.compile(r"(://[^/?#:@\s]*:)[^\s]+(?=@)|([?&]password=)[^&\s]+")
"""Of an address: ``user:secret@host`` or ``?password=secret``."""


def printable(text: str) -> str:
    """Escape control, bidirectional and unassigned characters, which a terminal would obey or reorder.

    Args:
        text: One line; a line break is escaped too.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_line(text: str, *, max_chars: int = MAX_LINE) -> str:
    """Return one printable line: line breaks become spaces, and the middle of a long text is dropped.

    The beginning says what is wrong and where, the end what to do: both are kept.

    Args:
        text: Of any length.
        max_chars: Characters of the line, at least 200.
    """
    if len(text) > 4 * max_chars:  # escaping megabytes of text would take seconds
        text = f"{text[: 2 * max_chars]} ... {text[-2 * max_chars :]}"
    line = printable(" ".join(part.strip() for part in text.splitlines()))
    return line if len(line) <= max_chars else f"{line[: max_chars - _TAIL - 5]} ... {line[-_TAIL:]}"


def short_repr(value: object, *, max_chars: int = _MAX_REPR) -> str:
    """Return the repr of a value, printable and at most ``max_chars`` characters long.

    The password of a URL is hidden.
    """
    if isinstance(value, str):
        value = _PASSWORD.sub(r"\1\2***", value[:_LONGEST_URL])[: max_chars + 1]
    elif isinstance(value, bytes):
        value = value[: max_chars + 1]
    elif isinstance(value, list | tuple | dict | set) and len(value) > max_chars:
        return f"{type(value).__name__} of {len(value):,}"
    try:
        text = printable(repr(value))
    except (ValueError, RecursionError):  # an integer of thousands of digits, or a recursive value
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."


def join_first(parts: Iterable[str], *, max_parts: int, between: str = "; ") -> str:
    """Join the first parts and count the rest: ``a; b and 3 more``."""
    found = list(parts)
    left = len(found) - max_parts
    return between.join(found[:max_parts]) + (f" and {left} more" if left > 0 else "")


def join_fitting(parts: Iterable[str], *, max_chars: int, between: str = ", ") -> str:
    """Join the first parts that fit into ``max_chars``, at least one, and count the rest: ``a, b and 3 more``."""
    found = list(parts)
    most, length = 1, len(found[0]) if found else 0
    for part in found[1:]:
        length += len(between) + len(part)
        if length > max_chars:
            break
        most += 1
    return join_first(found, max_parts=most, between=between)
