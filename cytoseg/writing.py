"""Atomic writes of files and folders: a temporary sibling, then a rename."""

import contextlib
import fnmatch
import glob
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cytoseg.errors import CytosegError
from cytoseg.json_text import load_json
from cytoseg.locks import claim, claimed_folder, is_claimed, locked
from cytoseg.quoting import short_repr

PATIENCE_S = 3.0
"""Seconds to wait for another process before giving up: children of a killed one end within seconds."""
_LOOK_S = 0.05
"""Seconds between two looks whether another process has put a folder back."""
REMOVED = "removed"
"""Suffix of a folder that is being removed."""

_BY_DESKTOPS = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""Files that desktops write into every folder that they show."""
_KEY = "key.json"
"""File in a resumable folder that stores its key."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file atomically: to a temporary file beside it, then renamed. A symlink is followed.

    Raises:
        OSError: If the disk is full or the folder cannot be written; the old file is then unchanged.
    """
    path = _followed(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            claim(handle)
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffixes, and rename it to ``path`` if the block succeeds.

    For writers that need a file name (images, figures, tables). On any exception the temporary file is removed.
    A symlink is followed.
    """
    path = _followed(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with temporary.open("wb") as file:
            claim(file.fileno())
            yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield an empty hidden folder beside a path, removed when the block ends; removes leftovers of kills first.

    Raises:
        OSError: If it cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if is_temporary(leftover.name, of=path.name, mark=".") and not is_claimed(leftover):
            shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as name, claimed_folder(Path(name)):
        yield Path(name)


@contextlib.contextmanager
def replaced(
    folder: Path, *, error: type[CytosegError], wait_s: float = PATIENCE_S, ours: Sequence[str] = ()
) -> Iterator[Path]:
    """Yield an empty folder that replaces ``folder`` when the block succeeds.

    After any error, including Ctrl-C, the old folder is unchanged and the new one is removed; after a kill the old
    folder is restored by the next ``replaced`` or ``restore_after_kill``. Only one process at a time may replace it. A
    symlink is followed: its target is replaced.

    Args:
        folder: What to replace; need not exist yet.
        error: Raised instead of an OSError, so the user reads one line.
        wait_s: How long to wait for another process that is replacing it.
        ours: As for ``refuse_foreign``; empty skips this check.

    Yields:
        The empty folder, on the same disk.

    Raises:
        CytosegError: Of the class ``error``, if the disk is full, the place cannot be written, the folder holds other
            files than ours, or another process is writing there.
    """
    place = _followed(folder)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _refuse_file(place, error)
        with locked(place, wait_s=wait_s, error=error):
            _clear(place)
            refuse_foreign(place, ours, error=error)
            try:
                with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as temporary:
                    new, old = Path(temporary) / "new", Path(temporary) / "old"
                    new.mkdir()
                    yield new
                    _swap(place, new=new, old=old)
            except KeyboardInterrupt:
                _clear(place)  # a signal may have come when the temporary folder was made but not yet ours to remove
                raise
    except OSError as problem:
        raise error(_unwritten(folder, problem, kept="the previous content is unchanged.")) from problem


@contextlib.contextmanager
def resumable(
    folder: Path, key: Mapping[str, Any], *, error: type[CytosegError], ours: Sequence[str] = ()
) -> Iterator[Path]:
    """Yield a folder that replaces ``folder`` when the block succeeds, and keeps its content otherwise.

    After an error, Ctrl-C or a kill the next call with the same key yields the same folder with its content; with
    another key, an empty one. After an error that left it empty it is removed. Only one process at a time gets it.
    A symlink is followed.

    Args:
        folder: What to replace; need not exist yet.
        key: Everything that determines the content, JSON-serialisable.
        error: Raised instead of an OSError, so the user reads one line.
        ours: As for ``refuse_foreign``; empty skips this check.

    Yields:
        The folder, on the same disk.

    Raises:
        CytosegError: Of the class ``error``, if the disk is full, the place cannot be written, the folder holds other
            files than ours, or another process is writing there.
    """
    place = _followed(folder)
    part, old = (_beside(place, what) for what in ("part", "old"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _refuse_file(place, error)
        with locked(place, wait_s=PATIENCE_S, error=error):
            _clear(place)
            refuse_foreign(place, ours, error=error)
            try:
                _keep_if_same(part, json.dumps(dict(key), sort_keys=True))
                yield part
                _swap(place, new=part, old=old)
                _finish(place)
            finally:
                if [path.name for path in part.glob("*")] == [_KEY]:
                    shutil.rmtree(part)
    except OSError as problem:
        kept = "finished work is kept, and the same command continues from there."
        raise error(_unwritten(folder, problem, kept=kept)) from problem


def _refuse_file(place: Path, error: type[CytosegError]) -> None:
    """Refuse a file where the folder goes: it would be replaced without a word."""
    if place.exists() and not place.is_dir():
        raise error(f"{place}: is a file, but a folder is written there. Move the file, or choose another folder.")


def refuse_foreign(folder: Path, ours: Sequence[str], *, error: type[CytosegError]) -> None:
    """Refuse to replace a folder of files that we did not write: they would be deleted.

    Args:
        folder: What will be replaced; need not exist.
        ours: Patterns of names of which each folder of this kind has one; empty skips the check.
        error: Class of the error.

    Raises:
        CytosegError: Of the class ``error``, if the folder has files, but none of these.
    """
    names = sorted({entry.name for entry in folder.iterdir()} - _BY_DESKTOPS) if ours and folder.is_dir() else []
    if names and not any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in ours):
        raise error(
            f"{folder}: holds other files, such as {short_repr(names[0])}, which would be deleted. Choose another "
            "folder, or move them."
        )


def _unwritten(folder: Path, problem: OSError, *, kept: str) -> str:
    if isinstance(problem, FileNotFoundError) and not _followed(folder).parent.exists():
        return f"{folder}: its folder was removed while this command was writing there. Run the command again."
    return f"{folder}: cannot be written ({_why(problem)}); {kept} Free some space or choose another folder."


def _why(problem: OSError) -> str:
    if isinstance(problem, shutil.Error):  # of a copied folder: one text for each file, which names both its paths
        *_, text = problem.args[0][0]
        return str(text).split("] ")[-1].split(": ")[0]
    return problem.strerror or str(problem)


def restore_after_kill(folder: Path) -> None:
    """Restore a folder that a kill between the two renames of ``replaced`` or ``resumable`` left renamed.

    For readers of such a folder. Does nothing if it exists or never existed.

    Args:
        folder: As it was given to them.
    """
    place, end = _followed(folder), time.monotonic() + PATIENCE_S
    with contextlib.suppress(OSError):
        while not place.exists() and _old_folders(place) and time.monotonic() < end:
            # The lock holder may be between the two renames: the folder is back in a moment.
            with contextlib.suppress(CytosegError), locked(place, wait_s=_LOOK_S, error=CytosegError):
                _restore(place)


def clear_leftovers(folder: Path) -> None:
    """Restore a folder or finish its swap after a kill, and remove other leftovers, unless a process is writing it.

    Args:
        folder: As it was given to ``replaced`` or ``resumable``.
    """
    place = _followed(folder)
    if not (_old_folders(place) or _swaps(place) or (place / _KEY).exists()):
        return
    with contextlib.suppress(OSError, CytosegError), locked(place, wait_s=0, error=CytosegError):
        _clear(place)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that it never exists partly under its name; a symlink is left alone.

    Raises:
        OSError: If it cannot be removed.
    """
    if folder.is_symlink():
        return
    removed = _beside(folder, REMOVED)
    shutil.rmtree(removed, ignore_errors=True)
    os.replace(folder, removed)
    shutil.rmtree(removed)


def is_temporary(name: str, *, of: str, mark: str) -> bool:
    """Return whether a name has the form of ``tempfile``: a prefix, a mark and eight characters."""
    return re.fullmatch(rf"\.{re.escape(of)}{re.escape(mark)}[a-z0-9_]{{8}}", name) is not None


def changed_key_of_unfinished(folder: Path, key: Mapping[str, Any]) -> str | None:
    """Name the first part of a key that differs from an unfinished folder of ``resumable``, which would be emptied.

    Args:
        folder: As for ``resumable``.
        key: Likewise.

    Returns:
        The first difference, such as ``predict.tile_px``; None if there is none or no unfinished folder.
    """
    try:
        begun = load_json(_beside(_followed(folder), "part") / _KEY)
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
    """Create the folder, emptied unless it has the same key."""
    written = part / _KEY
    if part.exists() and not (written.exists() and written.read_text(encoding="utf-8", errors="replace") == key):
        shutil.rmtree(part)
    part.mkdir(exist_ok=True)
    write_atomically(written, key)


def _followed(path: Path) -> Path:
    """Resolve a symlink: a rename would replace the link itself."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _clear(place: Path) -> None:
    """Restore the folder and remove other leftovers of kills; the caller holds its lock."""
    _restore(place)
    if (place / _KEY).exists():
        _finish(place)
    for leftover in _swaps(place):
        shutil.rmtree(leftover, ignore_errors=True)


def _finish(place: Path) -> None:
    """Finish the swap of ``resumable``; the key is removed last, so a kill before that is detected."""
    shutil.rmtree(_beside(place, "old"), ignore_errors=True)
    (place / _KEY).unlink()


def _restore(place: Path) -> None:
    asides = _old_folders(place)
    if asides and not place.exists():
        os.replace(asides[-1], place)


def _old_folders(place: Path) -> list[Path]:
    """List old folders that an interrupted swap left renamed, oldest first."""
    found = []
    for path in (_beside(place, "old"), *(swap / "old" for swap in _swaps(place))):
        with contextlib.suppress(FileNotFoundError):  # another process has ended its swap
            if path.is_dir():
                found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found)]


def _swaps(place: Path) -> list[Path]:
    """List the temporary folders of ``replaced``."""
    found = place.parent.glob(f".{glob.escape(place.name)}-*")
    return [path for path in found if is_temporary(path.name, of=place.name, mark="-") and is_swap(path)]


def is_swap(path: Path) -> bool:
    """Return whether a folder contains only what ``replaced`` puts into its temporary folder."""
    with contextlib.suppress(FileNotFoundError):  # another process has ended its swap
        return path.is_dir() and not path.is_symlink() and {entry.name for entry in path.iterdir()} <= {"new", "old"}
    return False


def _swap(folder: Path, *, new: Path, old: Path) -> None:
    try:
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
