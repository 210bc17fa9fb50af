"""Fingerprints of slides: size, modification time and SHA-256."""

import hashlib
from collections.abc import Iterator
from pathlib import Path


def slide_stamp(path: Path) -> tuple[int, int]:
    """Return a slide's size in bytes and modification time in seconds; for a folder over all its files.

    Raises:
        OSError: If it does not exist.
    """
    found = [file.stat() for file in _files(path)]
    return sum(stat.st_size for stat in found), int(max((stat.st_mtime for stat in found), default=0.0))


def slide_sha256(path: Path) -> str:
    """Return the SHA-256 of a slide; for a folder, of the names and contents of all its files.

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
    """Return the file itself, or the files of a folder in a deterministic order."""
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    else:
        yield path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
