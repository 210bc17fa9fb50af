"""What tells one slide from another on disk, whether it is a file or a folder."""

import hashlib
from collections.abc import Iterator
from pathlib import Path


def slide_stamp(path: Path) -> tuple[int, int]:
    """Return the bytes of a slide and the second of its last change; of a folder those of all files in it.

    Raises:
        OSError: If it is not there.
    """
    found = [file.stat() for file in _files(path)]
    return sum(stat.st_size for stat in found), int(max((stat.st_mtime for stat in found), default=0.0))


def slide_sha256(path: Path) -> str:
    """Return the SHA-256 of a slide's file; of a folder that of the names and contents of all files in it.

    Raises:
        OSError: If it cannot be read.
    """
    if not path.is_dir():
        return _sha256(path)
    lines = (f"{_sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in _files(path))
    whole = hashlib.sha256()
    for line in lines:
        whole.update(line.encode())
    return whole.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    """Return the file itself, or the files of a folder in an order that does not depend on the disk."""
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    else:
        yield path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
