"""The name of a run in the reviewers' log, which never changes once it was used."""

from pathlib import Path

from cytoseg.errors import CytosegError, LabelError
from cytoseg.labels.corrections import now
from cytoseg.locks import locked
from cytoseg.runs import RUN_FILE
from cytoseg.writing import write_atomically

FILE = Path("review", "name_in_log.txt")
"""Keeps the name of a run that was in the log before its first command."""
_WAIT_S = 10.0
_TO_THE_MINUTE = 16
_LONGEST = 400


def name_in_log(run: Path) -> str:
    """Return the name under which the entries of a run are found.

    A shared log may hold runs of equal folder names, so the start of the run's first command is part of its name. If it
    was in the log earlier, the time of its first entry is, as ``FILE`` keeps it.

    Args:
        run: The run folder.

    Returns:
        The name; that of the folder while it has neither an entry nor a command.

    Raises:
        LabelError: If ``FILE`` is damaged or cannot be read.
    """
    return _kept(run) or _begun(run) or run.resolve().name


def named_in_log(run: Path) -> str:
    """Return the name under which an entry of a run is written, and keep it if no command has given one yet.

    Raises:
        LabelError: If ``FILE`` is damaged, or cannot be read or written.
    """
    if (found := _kept(run) or _begun(run)) is not None:
        return found
    path = run / FILE
    try:
        with locked(path, wait_s=_WAIT_S, error=LabelError):
            if (found := _kept(run) or _begun(run)) is None:  # of two people who write at once, one chooses it
                found = f"{run.resolve().name[:200]} {now()[:_TO_THE_MINUTE]}"
                write_atomically(path, f"{found}\n")
    except OSError as error:
        raise LabelError(f"{FILE}: cannot be written ({error.strerror or error}). Check the permissions.") from error
    return found


def _kept(run: Path) -> str | None:
    path = run / FILE
    try:
        found = path.read_bytes()[: 4 * _LONGEST].decode().strip() if path.is_file() else None
    except (OSError, ValueError) as error:
        raise LabelError(f"{FILE}: cannot be read ({error}). Restore it.") from error
    if found is not None and not (found.isprintable() and 0 < len(found) <= _LONGEST):
        raise LabelError(f"{FILE}: is damaged. Restore it, or move it away; earlier entries are then hidden.")
    return found


def _begun(run: Path) -> str | None:
    """Return the name with the start of the first command that is recorded; a running one may leave no record."""
    try:
        commands = RUN_FILE.read(run / "run.json").commands
    except (OSError, CytosegError):  # missing or damaged
        return None
    return f"{run.resolve().name} {commands[0].started[:_TO_THE_MINUTE]}".strip() if commands else None
