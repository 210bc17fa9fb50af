"""Origin of a crop (slide and region), stored beside it.

A picture ``x.png`` has the sidecar ``x.crop.json``; a labelme file has the key ``cytoseg``. Both contain
``{"slide": "slide_03", "region": [x, y, width, height]}``, the region in level-0 pixels; or ``"region": null`` if only
the slide is known.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytoseg.errors import FileContentError, LabelError
from cytoseg.geometry import Region
from cytoseg.json_text import load_json
from cytoseg.quoting import shown

SUFFIX = ".crop.json"


@dataclass(frozen=True)
class Origin:
    """The slide of a crop, and its region in level-0 pixels, if known."""

    slide: str
    region: Region | None


def parse_origin(value: object, *, name: str) -> Origin:
    """Validate the content of a sidecar.

    Args:
        value: Parsed JSON.
        name: What to call it in a message.

    Returns:
        Slide and region.

    Raises:
        LabelError: If keys are missing or of the wrong type.
    """
    entry: dict[str, Any] = value if isinstance(value, dict) else {}
    slide, region = entry.get("slide"), entry.get("region")
    if not isinstance(slide, str) or not slide.strip():
        raise LabelError(f"{name}: 'slide' is {shown(slide)}. It must be the slide's name.")
    if region is None and "region" in entry:
        return Origin(slide, None)
    try:
        return Origin(slide, Region.from_json(region))
    except ValueError as error:
        raise LabelError(
            f"{name}: 'region' is {shown(region)}. It must be [x, y, width, height] in whole level-0 pixels."
        ) from error


def read_sidecar(picture: Path) -> Origin | None:
    """Read the sidecar beside a picture.

    Args:
        picture: The picture, or the labelme file of the same stem.

    Returns:
        Slide and region, or None if there is no sidecar.

    Raises:
        LabelError: If the sidecar is damaged.
    """
    path = picture.with_name(picture.stem + SUFFIX)
    if not path.is_file():
        return None
    try:
        value = load_json(path)
    except FileContentError as error:
        raise LabelError(f"{path.name}: is not complete JSON ({error.why}). Recreate or delete it.") from error
    return parse_origin(value, name=path.name)
