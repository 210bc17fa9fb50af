"""Reading a run folder: provenance, class list, slide predictions."""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from cytoseg.classes import ClassList, SavedClasses
from cytoseg.errors import CytosegError
from cytoseg.json_text import load_json
from cytoseg.predict.sign_off_file import bundle_hash, bundle_of
from cytoseg.predict.summary import SUMMARY_FILE, ClassArea
from cytoseg.records import RecordFile
from cytoseg.running import Running, running_in
from cytoseg.runs import RUN_FILE, CommandRecord, Provenance

Row = tuple[str, str]


@dataclass(frozen=True)
class Summary:
    """Summary of a predicted slide as text.

    Attributes:
        facts: (name, value) pairs in file order; nested names are joined with a comma.
        classes: Per class its name, pixels, fraction of the slide and area, as text under ``SUMMARY_HEAD``.
        provenance: (name, value) pairs of the prediction's inputs.
    """

    facts: tuple[Row, ...]
    classes: tuple[tuple[str, str, str, str], ...]
    provenance: tuple[Row, ...]


@dataclass(frozen=True)
class _BundleState:
    classes: SavedClasses
    sha256: dict[str, str] = field(default_factory=dict)


_NOT_JSON = "the file is not complete JSON"
_STATE = RecordFile(
    _BundleState,
    CytosegError,
    "Run `cytoseg train-interpreter` again.",
    unnumbered=True,
    damaged="the class list is damaged",
    not_json=_NOT_JSON,
)
SUMMARY_HEAD = ("Class", "Pixels", "Share", "Area (mm²)")


@contextlib.contextmanager
def readable(name: str) -> Iterator[None]:
    """Convert an OSError while reading a file or folder into a one-line error.

    Args:
        name: Name of the file in messages.

    Raises:
        CytosegError: Instead of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise CytosegError(
            f"{name}: cannot be read ({error.strerror or type(error).__name__}). Ask its owner for permission."
        ) from error


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run: it contains run.json or recipe.yaml and is accessible."""
    return _written(folder) is not None


def find_runs(folder: Path) -> list[Path]:
    """List the runs directly in a folder, latest first.

    Args:
        folder: Folder of runs; it need not exist.

    Returns:
        Run folders by modification time of their run.json (or recipe.yaml).

    Raises:
        CytosegError: If the folder may not be read.
    """
    if not folder.is_dir():
        return []
    with readable(folder.name):
        dated = [(_written(run), run) for run in folder.iterdir()]
    runs = [(written, run) for written, run in dated if written is not None]
    return [run for _, run in sorted(runs, key=lambda entry: (-entry[0], entry[1].name))]


def _written(run: Path) -> float | None:
    """Return the time at which a run was last written, or None if the folder is not a run."""
    moments = []
    for name in ("run.json", "recipe.yaml"):
        # It may be inaccessible, such as lost+found, or be removed at this moment.
        with contextlib.suppress(OSError):
            found = (run / name).stat()
            if stat.S_ISREG(found.st_mode):
                moments.append(found.st_mtime)
    return max(moments, default=None)


def read_provenance(run: Path) -> Provenance | None:
    """Read run.json.

    Args:
        run: The run folder.

    Returns:
        The provenance, or None if there is no run.json.

    Raises:
        CytosegError: If the file is damaged, of another format or may not be read.
    """
    path, running = run / "run.json", running_in(run)
    now = tuple(map(_unfinished, running))
    if not _is_there(path):
        return Provenance(running[-1].recipe, now) if running else None
    found = RUN_FILE.read(path, name=_name(path))
    return replace(found, commands=(*found.commands, *now))


def _unfinished(entry: Running) -> CommandRecord:
    return CommandRecord(entry.command, entry.started, "", None, None, {}, entry.outcome)


def read_classes(run: Path) -> ClassList | None:
    """Read the class list of a run's interpreters.

    Args:
        run: The run folder.

    Returns:
        The class list, or None if no interpreters have been trained.

    Raises:
        CytosegError: If the file is damaged or may not be read.
    """
    path = run / "interpreter" / "bundle" / "state.json"
    if not _is_there(path):
        return None
    return _STATE.read(path, name=_name(path)).classes.class_list()


def is_of_another_model(run: Path, prediction: Path) -> bool:
    """Return whether a slide was predicted with another bundle than the run has now; False if either is unknown.

    Args:
        run: The run folder.
        prediction: Folder of the slide's results.
    """
    path, made_with = run / "interpreter" / "bundle" / "state.json", bundle_of(prediction)
    try:
        weights = _STATE.read(path, name=_name(path)).sha256 if made_with and _is_there(path) else {}
    except CytosegError:  # the commands that use the bundle say what is wrong with it
        return False
    return bool(weights) and bundle_hash(weights) != made_with


def predictions(run: Path) -> list[Path]:
    """List the folders of predicted slides of a run that can be shown, by name.

    Unfinished and inaccessible ones are omitted.
    """
    folders: list[Path] = []
    with contextlib.suppress(OSError):
        folders = [path for path in (run / "predictions").iterdir() if not path.name.startswith(".")]
    # Unlike Path.is_file, this treats an inaccessible file as missing.
    return sorted(path for path in folders if any(os.path.isfile(path / name) for name in _SHOWN))


def read_summary(folder: Path) -> Summary | None:
    """Read the summary.json of a predicted slide.

    Args:
        folder: predictions/<slide>.

    Returns:
        The summary, or None if there is none.

    Raises:
        CytosegError: If the file is damaged or may not be read.
    """
    path = folder / "summary.json"
    if not _is_there(path):
        return None
    found, record = SUMMARY_FILE.read(path, name=_name(path)), load_json(path)
    # The path of a slide must not be shown on a page served over the network.
    apart = {"slide_path", "format", "classes", "provenance", "objects", "versions", "bundle"}
    facts = {key: value for key, value in record.items() if key not in apart and value != ""}
    counts = {f"objects: {name}": totals.objects for name, totals in found.objects.items()}
    return Summary(
        facts=tuple(plain_rows({**facts, **counts})),
        classes=tuple(_area(name, area) for name, area in found.classes.items()),
        provenance=tuple(plain_rows({**found.provenance, **found.versions})),
    )


def moment_of(text: str) -> datetime | None:
    """Parse an ISO time for comparisons; a time without a zone is local.

    Args:
        text: Text from a file.

    Returns:
        The time with its zone, or None if it is invalid.
    """
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None


def time_text(moment: str) -> str:
    """Format an ISO time as ``2026-03-01 14:05`` in the local time zone; anything else is returned unchanged."""
    found = moment_of(moment)
    return moment if found is None else found.strftime("%Y-%m-%d %H:%M")


_SHOWN = ("preview.png", "summary.json")


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _is_there(path: Path) -> bool:
    with readable(_name(path)):
        return path.is_file()


def _area(name: str, area: ClassArea) -> tuple[str, str, str, str]:
    share, area_um2 = area.share, area.area_um2
    return (
        name,
        _plain(area.pixels),
        "-" if share is None else f"{100 * share:.2f} %",
        "-" if area_um2 is None else f"{area_um2 / 1e6:.4g}",
    )


def plain_rows(value: object, name: str = "") -> list[Row]:
    """Flatten JSON into (name, value) texts; nested names are joined with a comma.

    Args:
        value: Nested JSON.
        name: Name of the root.
    """
    if isinstance(value, dict):
        prefix = f"{name}, " if name else ""
        return [row for key, part in value.items() for row in plain_rows(part, prefix + str(key).replace("_", " "))]
    if isinstance(value, list):
        if any(isinstance(part, dict) for part in value):
            return [row for number, part in enumerate(value, 1) for row in plain_rows(part, f"{name} {number}")]
        return [(name, ", ".join(_plain(part) for part in value))]
    return [(name, _plain(value))]


def _plain(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
