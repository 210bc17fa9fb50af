"""Writing whole files and folders or none: into a temporary place beside the target, then renamed."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cytoseg.errors import CytosegError

_KEY = "key.json"
"""In a folder that can be gone on with: what it was made for."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: into a temporary file beside it, then renamed.

    Raises:
        OSError: If the disk is full or the folder cannot be written; the old file is then still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path with the same suffixes, and rename it to ``path`` if the block ends well.

    For writers that want a file name (images, figures, tables). On any exception the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced(folder: Path, *, error: type[CytosegError]) -> Iterator[Path]:
    """Give an empty folder that takes the place of ``folder`` when the block ends well.

    After any error, Ctrl-C included, the folder is as it was and the empty one is gone.

    Args:
        folder: What to replace; need not exist yet.
        error: Raised in place of an OSError, so that the user reads one line.

    Yields:
        The empty folder, on the same disk.

    Raises:
        CytosegError: Of the class ``error``, if the disk is full or the place cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            new, old = Path(temporary) / "new", Path(temporary) / "old"
            new.mkdir()
            yield new
            _swap(folder, new=new, old=old)
    except OSError as problem:
        why = problem.strerror or problem
        raise error(
            f"{folder}: cannot be written ({why}); what was there is unchanged. Make room or choose another folder."
        ) from problem


@contextlib.contextmanager
def resumable(folder: Path, key: Mapping[str, Any], *, error: type[CytosegError]) -> Iterator[Path]:
    """Give a folder that takes the place of ``folder`` when the block ends well, and keeps what is in it otherwise.

    After an error, Ctrl-C or a kill the next call with the same key gives the same folder with all that it held; with
    another key, an empty one. After an error that left it empty nothing stays. Only one process at a time gets it.

    Args:
        folder: What to replace; need not exist yet.
        key: All that decides what is written, as JSON can hold it.
        error: Raised in place of an OSError, so that the user reads one line.

    Yields:
        The folder, on the same disk.

    Raises:
        CytosegError: Of the class ``error``, if the disk is full, the place cannot be written, or another process is
            writing there.
    """
    part, old, lock = (_beside(folder, what) for what in ("part", "old", "lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            try:
                _keep_if_same(part, json.dumps(dict(key), sort_keys=True))
                yield part
                shutil.rmtree(old, ignore_errors=True)  # a kill between the two renames leaves it
                _swap(folder, new=part, old=old)
                (folder / _KEY).unlink()
                shutil.rmtree(old, ignore_errors=True)
            finally:
                if [path.name for path in part.glob("*")] == [_KEY]:
                    shutil.rmtree(part)
                lock.unlink(missing_ok=True)
    except Timeout as problem:
        raise error(f"{folder}: another process is writing it. Wait until it ends, or stop it.") from problem
    except OSError as problem:
        why = problem.strerror or problem
        raise error(
            f"{folder}: cannot be written ({why}); what is finished is kept, and the same command goes on from there. "
            "Make room or choose another folder."
        ) from problem


def begun_with_another(folder: Path, key: Mapping[str, Any]) -> str | None:
    """Name what of a key is not as it was when ``resumable`` began the unfinished folder, which it would empty.

    Args:
        folder: As for ``resumable``.
        key: Likewise.

    Returns:
        The first that differs, such as ``predict.tile_px``; None if nothing does or nothing unfinished is there.
    """
    try:
        begun = json.loads((_beside(folder, "part") / _KEY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _difference(begun, json.loads(json.dumps(dict(key))))


def _difference(old: Any, new: Any, place: str = "") -> str | None:
    if old == new:
        return None
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return place.removesuffix(".")
    names = (name for name in (*new, *old) if name not in old or name not in new or old[name] != new[name])
    name = next(names)
    return _difference(old.get(name), new.get(name), f"{place}{name}.") or f"{place}{name}"


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _keep_if_same(part: Path, key: str) -> None:
    """Make the folder, emptied unless it was made for the same key."""
    written = part / _KEY
    if part.exists() and not (written.exists() and written.read_text(encoding="utf-8") == key):
        shutil.rmtree(part)
    part.mkdir(exist_ok=True)
    write_atomically(written, key)


def remove_leftovers(folder: Path, pattern: str) -> None:
    """Remove what a kill in the middle of ``replaced`` has left; nobody else may be writing there.

    Args:
        folder: Where the replaced folders lie; need not exist.
        pattern: Of their names, such as ``checkpoint-*``.
    """
    for leftover in folder.glob(f".{pattern}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _swap(folder: Path, *, new: Path, old: Path) -> None:
    try:
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
