"""Which slides of a run may be shown, each under a key: those that its recipe names, and those that it predicted.

A run's folder may come from somebody else, and the tiles of a slide are given out by a web server. So no path is ever
taken from a request, and a path that stands in a run's folder is believed only if that run must have seen the file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from cytoseg.errors import SlideError
from cytoseg.evaluation.run_folder import predictions
from cytoseg.json_text import load_json
from cytoseg.predict.outputs import SUMMARY
from cytoseg.slides.fingerprint import slide_sha256, slide_stamp
from cytoseg.slides.open import SLIDE_SUFFIXES, find_slides, slide_id

Stamp = tuple[int, int]


@dataclass(frozen=True)
class Found:
    """A slide that may be shown.

    Attributes:
        key: What it is called in addresses: its id, with a number behind if several slides have the same.
        slide: Its id, by the name under which it was found.
        path: Where it lies, links followed.
        prediction: Folder of its maps, if this very file was predicted.
    """

    key: str
    slide: str
    path: Path
    prediction: Path | None = None


@dataclass(frozen=True)
class Catalogue:
    """The slides of a run.

    Attributes:
        slides: By key, sorted.
        gone: Names of the folders of predictions whose slide is not there, is another file now, or was not known well
            enough when it was predicted.
        outside: How many links lead out of the recipe's folders; they are not shown.
    """

    slides: dict[str, Found]
    gone: tuple[str, ...]
    outside: int


def list_slides(run: Path, *, folders: Sequence[Path], include: Sequence[str], exclude: Sequence[str]) -> Catalogue:
    """List the slides of a run that may be shown.

    A slide of the recipe must lie in one of its folders after all links are followed, and belongs to a prediction by
    its name and length; who shows both together asks ``is_predicted``. A slide that was predicted from elsewhere must
    be the file that was predicted, to the byte and the second of its last change or to its SHA-256: nobody can name
    those of a file that he has not seen.

    Args:
        run: The run folder.
        folders: Of the recipe's slides; those that are missing hold none.
        include: Globs within them.
        exclude: Globs of what to leave out.
    """
    roots = [folder.resolve() for folder in folders if folder.is_dir()]
    real = {path.resolve(): path for folder in roots for path in _in_folder(folder, include, exclude)}
    inside = {path: name for path, name in real.items() if any(path.is_relative_to(root) for root in roots)}
    slides: dict[str, Found] = {}
    for path, name in inside.items():
        _add(slides, slide_id(name), path)
    gone = []
    for folder in predictions(run):
        if (predicted := _predicted(folder, slides.values())) is None:
            gone.append(folder.name)
            continue
        known = next((found for found in slides.values() if found.path == predicted), None)
        known = known or _add(slides, folder.name, predicted)
        slides[known.key] = replace(known, prediction=folder)
    return Catalogue(dict(sorted(slides.items())), tuple(gone), len(real) - len(inside))


def check_still_there(found: Found) -> None:
    """Refuse a slide that has gone since it was listed, or in whose place a link leads elsewhere.

    Raises:
        SlideError: In one sentence without a path.
    """
    if not found.path.exists():
        raise SlideError(f"{found.path.name}: is no longer there. Restore it, or remove it from the recipe.")
    if found.path.resolve() != found.path:
        raise SlideError(f"{found.path.name}: is now a link to another place and is not shown.")
    if not _is_file_or_folder(found.path):
        raise SlideError(f"{found.path.name}: is now a pipe or device and is not read.")


def read_record(folder: Path) -> dict[str, Any]:
    """Read the summary of a prediction; a damaged or missing one gives an empty record."""
    try:
        record = load_json(folder / SUMMARY)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def part_of(record: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a part of a record that is a record itself; an empty one if it is none."""
    part = record.get(key)
    return part if isinstance(part, dict) else {}


def _in_folder(folder: Path, include: Sequence[str], exclude: Sequence[str]) -> list[Path]:
    try:
        return find_slides([folder], include, exclude)
    except SlideError:  # there are none
        return []


def _add(slides: dict[str, Found], slide: str, path: Path) -> Found:
    number, key = 1, slide
    while key in slides:
        number += 1
        key = f"{slide} ({number})"
    slides[key] = Found(key, slide, path)
    return slides[key]


def _predicted(folder: Path, slides: Iterable[Found]) -> Path | None:
    """Find the file that was predicted: one of the recipe's, or the one that the summary names."""
    record = read_record(folder)
    length, named = part_of(record, "provenance").get("slide_bytes"), record.get("slide_path")
    for found in slides:
        if found.slide == folder.name and (stamp := _stamp(found.path)) and stamp[0] == length:
            return found.path
    if isinstance(named, str) and named.lower().endswith(SLIDE_SUFFIXES) and is_predicted(Path(named), record):
        return Path(named).resolve()
    return None


def is_predicted(path: Path, record: dict[str, Any]) -> bool:
    """Return whether a file is the one that was predicted: a copy of it may have another time, but no other content.

    Of a copy the SHA-256 is taken once: that reads the whole file.

    Args:
        path: The file; need not exist.
        record: The summary of the prediction.
    """
    provenance, stamp = part_of(record, "provenance"), _stamp(path)
    if stamp is None or stamp[0] != provenance.get("slide_bytes"):
        return False
    try:
        return stamp[1] == provenance.get("slide_changed") or _sha256(path, stamp) == record.get("slide_sha256")
    except OSError:
        return False


@lru_cache(maxsize=256)
def _sha256(path: Path, stamp: Stamp) -> str:
    return slide_sha256(path)


def _stamp(path: Path) -> Stamp | None:
    try:
        return slide_stamp(path) if _is_file_or_folder(path) else None
    except (OSError, ValueError):  # a path with a null byte is a ValueError
        return None


def _is_file_or_folder(path: Path) -> bool:
    """Tell a slide from a pipe or a device, whose reading might never end."""
    return path.is_file() or path.is_dir()
