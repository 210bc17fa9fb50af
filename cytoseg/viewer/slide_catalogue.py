"""The slides of a run that the viewer may show, by key.

They are the slides of its recipe and those it predicted. A run folder may come from another person, and a web server
serves the tiles. So no path is ever taken from a request, and a path in a run folder is trusted only if that run must
have read the file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from cytoseg.errors import SlideError
from cytoseg.evaluation.run_folder import predictions
from cytoseg.predict.kept_versions import versions_of
from cytoseg.predict.summary import SlideSummary, summary_of
from cytoseg.slides.fingerprint import slide_sha256, slide_stamp
from cytoseg.slides.open import SLIDE_SUFFIXES, find_slides, slide_id
from cytoseg.viewer.reading_threads import Lanes

Stamp = tuple[int, int]

_DISKS = Lanes(threads=1, limit_s=5.0)
"""On a dead network share even asking whether a file exists may block forever; other slides are listed anyway."""


@dataclass(frozen=True)
class CatalogueEntry:
    """A slide that may be shown.

    Attributes:
        key: Its name in URLs: its id, with a number appended if several slides have the same id.
        slide: Its id, from the name under which it was found.
        path: Its path with symlinks resolved.
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
        versions: Kept versions of predictions, by keys of their own.
        gone: Prediction folders whose slide is missing, has been replaced, was not identified well enough when it was
            predicted, or lies on a disk that does not answer.
        outside: Number of symlinks that lead out of the recipe's folders; they are not shown.
    """

    slides: dict[str, CatalogueEntry]
    gone: tuple[str, ...]
    outside: int
    versions: dict[str, CatalogueEntry] = field(default_factory=dict)

    def named(self, key: str) -> CatalogueEntry | None:
        """Return the slide or version of a key, if there is one."""
        return self.slides.get(key) or self.versions.get(key)


def list_slides(run: Path, *, folders: Sequence[Path], include: Sequence[str], exclude: Sequence[str]) -> Catalogue:
    """List the slides of a run that may be shown.

    A slide of the recipe must lie in one of its folders with symlinks resolved, and is matched to a prediction by name
    and size; to show both together, check ``is_predicted``. A slide predicted from elsewhere must be the predicted
    file, by size and modification time or by SHA-256, which only a reader of the file can know.

    Args:
        run: The run folder.
        folders: Folders of the recipe's slides; missing ones, and those on a disk that does not answer, are skipped.
        include: Globs in these folders.
        exclude: Globs to exclude.
    """
    listings = [_of_folder(folder, include, exclude) for folder in folders]
    roots = [root for root, _ in listings if root is not None]
    real = {path: name for _, found in listings for path, name in found.items()}
    inside = {path: name for path, name in real.items() if any(path.is_relative_to(root) for root in roots)}
    slides: dict[str, CatalogueEntry] = {}
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
    listed = dict(sorted(slides.items()))
    return Catalogue(listed, tuple(gone), len(real) - len(inside), _versions(run, listed))


def _versions(run: Path, slides: Mapping[str, CatalogueEntry]) -> dict[str, CatalogueEntry]:
    """List the kept versions of the slides' predictions that were made of these very files."""
    versions: dict[str, CatalogueEntry] = {}
    for key, found in slides.items():
        folder = found.slide if found.prediction is None else found.prediction.name
        for kept in versions_of(run, folder):
            name = f"{key}@{kept.folder.name}"  # in a URL a slash would begin another part
            if name not in slides and is_predicted(found.path, summary_of(kept.folder)):
                versions[name] = replace(found, key=name, prediction=kept.folder)
    return versions


def check_still_there(found: CatalogueEntry) -> None:
    """Refuse a slide that has been removed since it was listed, or replaced by a symlink.

    Raises:
        SlideError: In one sentence without the path.
    """
    if not found.path.exists():
        raise SlideError(f"{found.path.name}: no longer exists. Restore it, or remove it from the recipe.")
    if found.path.resolve() != found.path:
        raise SlideError(f"{found.path.name}: is now a link to another place and is not shown.")
    if not _is_file_or_folder(found.path):
        raise SlideError(f"{found.path.name}: is now a pipe or device and is not read.")


def _of_folder(folder: Path, include: Sequence[str], exclude: Sequence[str]) -> tuple[Path | None, dict[Path, Path]]:
    """Return a folder and its slides, resolved; no folder if it is missing or its disk does not answer."""

    def look() -> tuple[Path | None, dict[Path, Path]]:
        root = folder.resolve() if folder.is_dir() else None
        found = [] if root is None else _in_folder(root, include, exclude)
        return root, {path.resolve(): path for path in found}

    try:
        return _DISKS.wait(folder, look)
    except SlideError:
        return None, {}


def _in_folder(folder: Path, include: Sequence[str], exclude: Sequence[str]) -> list[Path]:
    try:
        return find_slides([folder], include, exclude)
    except SlideError:  # there are none
        return []


def _add(slides: dict[str, CatalogueEntry], slide: str, path: Path) -> CatalogueEntry:
    number, key = 1, slide
    while key in slides:
        number += 1
        key = f"{slide} ({number})"
    slides[key] = CatalogueEntry(key, slide, path)
    return slides[key]


def _predicted(folder: Path, slides: Iterable[CatalogueEntry]) -> Path | None:
    """Find the predicted file: a slide of the recipe, or the one named in the summary."""
    summary = summary_of(folder)
    for found in slides:
        if (
            found.slide == folder.name
            and (stamp := _stamp(found.path))
            and stamp[0] == summary.provenance.get("slide_bytes")
        ):
            return found.path
    named = summary.slide_path
    if named.lower().endswith(SLIDE_SUFFIXES) and is_predicted(Path(named), summary):
        return Path(named).resolve()
    return None


def is_predicted(path: Path, summary: SlideSummary) -> bool:
    """Return whether a file is the predicted one; a copy may have another modification time but not another content.

    The SHA-256 of a copy is computed once, which reads the whole file.

    Args:
        path: The file; need not exist.
        summary: Of the prediction.
    """
    provenance, stamp = summary.provenance, _stamp(path)
    if stamp is None or stamp[0] != provenance.get("slide_bytes"):
        return False
    try:
        return stamp[1] == provenance.get("slide_changed") or _sha256(path, stamp) == summary.slide_sha256
    except OSError:
        return False


@lru_cache(maxsize=256)
def _sha256(path: Path, stamp: Stamp) -> str:
    return slide_sha256(path)


def _stamp(path: Path) -> Stamp | None:
    try:
        return _DISKS.wait(path.parent, lambda: slide_stamp(path) if _is_file_or_folder(path) else None)
    except (OSError, ValueError, SlideError):  # a null byte in a path raises a ValueError, a silent disk a SlideError
        return None


def _is_file_or_folder(path: Path) -> bool:
    """Return whether a path is a file or folder rather than a pipe or device, which may block forever."""
    return path.is_file() or path.is_dir()
