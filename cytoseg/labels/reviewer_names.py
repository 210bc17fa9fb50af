"""Cleaning of typed reviewer names and comments."""

import re
import unicodedata

NAME_LENGTH = 80
COMMENT_LENGTH = 2000


def clean_name(text: str) -> str:
    """Return a person's name on one line, in any script.

    Args:
        text: The typed text.

    Returns:
        At most 80 characters without control characters; empty if nothing is left.
    """
    return " ".join(_printable(text).split())[:NAME_LENGTH].strip()


def same_person(first: str, second: str) -> bool:
    """Return whether two names are one person's; case and the way that accents are encoded do not matter."""
    return _folded(first) == _folded(second)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def clean_comment(text: str) -> str:
    """Return a comment without control characters, its line breaks kept; at most 2000 characters."""
    lines = [" ".join(_printable(line).split()) for line in text.splitlines()]
    return "\n".join(lines).strip()[:COMMENT_LENGTH].strip()


def file_part(name: str) -> str:
    """Convert a person's name for a file name: letters and digits of any script are kept, the rest becomes hyphens.

    Args:
        name: The person's name.

    Returns:
        At most 100 bytes of UTF-8, since file systems allow 255; ``reviewer`` if no letter is left.
    """
    # Letters may be followed by marks, such as Hindi vowels, which \w does not match.
    kept = "".join(c if re.match(r"\w", c) or unicodedata.category(c)[0] == "M" else "-" for c in _printable(name))
    text = re.sub(r"[-_]+", "-", unicodedata.normalize("NFC", kept)).strip("-")
    return text.encode()[:100].decode(errors="ignore").strip("-") or "reviewer"


def _printable(text: str) -> str:
    # Cc: control characters; Cs: surrogates, which cannot be encoded.
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
