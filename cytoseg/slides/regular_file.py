"""Telling files from what only looks like one: a named pipe or a device may never answer who reads it."""

import stat
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def no_file(path: Path) -> str:
    """Say what a path is if it is not a file, links followed; empty for a file.

    Args:
        path: Need not be readable.

    Raises:
        OSError: If nothing is there, or nobody may look.
        ValueError: If it cannot be a path.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return ""
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "no file")
