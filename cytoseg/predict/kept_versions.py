"""Versions of a slide's prediction, kept when the slide is predicted again."""

import contextlib
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cytoseg.errors import PredictionError
from cytoseg.predict.sign_off_file import bundle_of
from cytoseg.predict.summary import SUMMARY_NAME, finished_summary
from cytoseg.writing import replaced

FOLDER = "versions"
"""Folder of a run with a folder for each slide, which holds one for each version."""
_MADE, _BUNDLE_DIGITS = "%Y%m%dT%H%M%SZ", 8


@dataclass(frozen=True)
class Version:
    """A kept prediction: its folder, when it was made (UTC, ISO 8601), and the first digits of its bundle's hash."""

    folder: Path
    made: str
    bundle: str


def versions_of(run: Path, slide: str) -> list[Version]:
    """List the kept versions of a slide, the latest first.

    Args:
        run: The run folder.
        slide: Name of the folder of its prediction.
    """
    folder = run / FOLDER / slide
    try:
        names = sorted((path.name for path in folder.iterdir()), reverse=True) if folder.is_dir() else []
    except OSError:
        return []
    found = [version_at(folder / name) for name in names if os.path.isfile(folder / name / SUMMARY_NAME)]
    return [version for version in found if version is not None]


def version_of(prediction: Path) -> Version:
    """Return where a prediction of a run is kept, or would be.

    Args:
        prediction: RUN/predictions/SLIDE.

    Raises:
        PredictionError: If its summary is missing or damaged, or does not say when and by which bundle it was made.
    """
    found = version_at(prediction.parents[1] / FOLDER / prediction.name / _name(prediction))
    assert found is not None
    return found


def keep_version(prediction: Path) -> Version:
    """Keep a prediction, so that it can be compared with a later one; do nothing if it is already kept.

    Files are hard links if the disk supports them: they take up space only once the slide has been predicted again.

    Args:
        prediction: RUN/predictions/SLIDE.

    Raises:
        PredictionError: If its summary is damaged, it is replaced meanwhile, or the disk is full.
    """
    version = version_of(prediction)
    if os.path.isfile(version.folder / SUMMARY_NAME):
        return version
    with replaced(version.folder, error=PredictionError) as place:
        # A link in a foreign run may point to any file of this machine.
        for file in sorted(prediction.iterdir()):
            if file.is_file() and not file.is_symlink() and not file.name.startswith("."):
                _link(file, place / file.name)
        if {_name(place), _name(prediction)} != {version.folder.name}:
            raise PredictionError(f"{prediction.name}: was predicted again in the meantime. Open it again.")
    # Readers of many slides notice a new version by this time; in another user's run they notice it a little later.
    with contextlib.suppress(OSError):
        os.utime(version.folder.parents[1])
    return version


def _name(folder: Path) -> str:
    """Name the version that a folder of results holds, from its summary."""
    made, bundle = finished_summary(folder).made, bundle_of(folder)
    try:
        moment = datetime.fromisoformat(made).astimezone(UTC)
    except ValueError:
        moment = None
    if moment is None or not bundle:
        raise PredictionError(
            f"{SUMMARY_NAME} does not say when or by which bundle it was made. Predict the slide again."
        )
    return f"{moment.strftime(_MADE)}-{bundle[:_BUNDLE_DIGITS]}"


def _link(file: Path, place: Path) -> None:
    try:
        os.link(file, place)
    except OSError:  # a disk without hard links
        shutil.copy2(file, place)


def version_at(folder: Path) -> Version | None:
    """Parse a folder's name: when and by which bundle the version was made; None for other folders."""
    moment, _, bundle = folder.name.partition("-")
    try:
        made = datetime.strptime(moment, _MADE).replace(tzinfo=UTC)
    except ValueError:
        return None
    return Version(folder, made.isoformat(timespec="seconds"), bundle)
