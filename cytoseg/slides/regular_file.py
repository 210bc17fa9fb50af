"""Telling regular files from pipes and devices, on which a read may block."""

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
    """Describe a path that is not a regular file, symlinks followed; empty for a file.

    Args:
        path: Need not be readable.

    Raises:
        OSError: If it does not exist or access is denied.
        ValueError: If it is not a valid path.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return ""
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "no file")
