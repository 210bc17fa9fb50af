"""What people type about a crop, made safe to store: their names, and the names of their files."""

import re
import unicodedata

NAME_LENGTH = 80
COMMENT_LENGTH = 2000


def clean_name(text: str) -> str:
    """Return a person's name on one line, as it was typed in any script.

    Args:
        text: What was typed.

    Returns:
        At most 80 characters without control characters; empty if nothing is left.
    """
    return " ".join(_printable(text).split())[:NAME_LENGTH].strip()


def clean_comment(text: str) -> str:
    """Return a comment without control characters, its line breaks kept; at most 2000 characters."""
    lines = [" ".join(_printable(line).split()) for line in text.splitlines()]
    return "\n".join(lines).strip()[:COMMENT_LENGTH].strip()


def file_part(name: str) -> str:
    """Make a person's name a part of a file name: letters and digits of any script stay, all else becomes a hyphen.

    Args:
        name: Of the person.

    Returns:
        At most 100 bytes of UTF-8, for a file system takes 255; ``reviewer`` if no letter is left.
    """
    # Letters may be followed by marks, such as the vowels of Hindi, which \w does not know.
    kept = "".join(c if re.match(r"\w", c) or unicodedata.category(c)[0] == "M" else "-" for c in _printable(name))
    text = re.sub(r"[-_]+", "-", unicodedata.normalize("NFC", kept)).strip("-")
    return text.encode()[:100].decode(errors="ignore").strip("-") or "reviewer"


def _printable(text: str) -> str:
    # Cc: control characters; Cs: halves of characters, which no file can hold.
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
