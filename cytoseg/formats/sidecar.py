"""Origin of a crop (slide and region), stored beside it.

An image ``x.png`` has the sidecar ``x.crop.json``; a labelme file has the key ``cytoseg``. Both contain
``{"slide": "slide_03", "region": [x, y, width, height]}``, the region in level-0 pixels; or ``"region": null`` if only
the slide is known. Ours also hold the number of their format and ``mpp``.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytoseg.errors import FileContentError, LabelError
from cytoseg.geometry import Region
from cytoseg.json_text import load_json
from cytoseg.quoting import short_repr
from cytoseg.records import RecordFile, RegionAsList
from cytoseg.writing import write_atomically

SIDECAR_SUFFIX = ".crop.json"


@dataclass(frozen=True)
class Origin:
    """The slide of a crop, and its region in level-0 pixels, if known."""

    slide: str
    region: RegionAsList | None


@dataclass(frozen=True)
class Cut(Origin):
    """Origin of a crop that was cut at ``mpp`` micrometres per pixel; None for the slide's own."""

    mpp: float | None = None


_FILE = RecordFile(Cut, LabelError, "Recreate or delete it.", unnumbered=True)


def write_sidecar(picture: Path, cut: Cut) -> None:
    """Write the sidecar of an image.

    Raises:
        OSError: If the disk is full.
    """
    write_atomically(sidecar_path(picture), json.dumps(_FILE.content_of(cut)))


def has_sidecar(picture: Path, cut: Cut) -> bool:
    """Return whether the sidecar of an image has exactly this content."""
    return _FILE.read_or_none(sidecar_path(picture)) == cut


def parse_origin(value: object, *, name: str) -> Origin:
    """Validate the content of a sidecar.

    Args:
        value: Parsed JSON.
        name: Its name in messages.

    Returns:
        Slide and region.

    Raises:
        LabelError: If keys are missing or of the wrong type.
    """
    entry: dict[str, Any] = value if isinstance(value, dict) else {}
    slide, region, number = entry.get("slide"), entry.get("region"), entry.get("format", _FILE.format)
    if number != _FILE.format:
        raise LabelError(f"{name}: has format {short_repr(number)}, this version reads {_FILE.format}. Update cytoseg.")
    if not isinstance(slide, str) or not slide.strip():
        raise LabelError(f"{name}: 'slide' is {short_repr(slide)}. It must be the slide's name.")
    if region is None and "region" in entry:
        return Origin(slide, None)
    try:
        return Origin(slide, Region.from_json(region))
    except ValueError as error:
        raise LabelError(
            f"{name}: 'region' is {short_repr(region)}. It must be [x, y, width, height] in whole level-0 pixels."
        ) from error


def read_sidecar(picture: Path) -> Origin | None:
    """Read the sidecar beside an image.

    Args:
        picture: The image, or the labelme file of the same stem.

    Returns:
        Slide and region, or None if there is no sidecar.

    Raises:
        LabelError: If the sidecar is damaged.
    """
    path = sidecar_path(picture)
    if not path.is_file():
        return None
    try:
        value = load_json(path)
    except FileContentError as error:
        raise LabelError(f"{path.name}: is not complete JSON ({error.why}). {_FILE.advice}") from error
    return parse_origin(value, name=path.name)


def sidecar_path(picture: Path) -> Path:
    """Return the path of the sidecar of an image."""
    return picture.with_name(picture.stem + SIDECAR_SUFFIX)
