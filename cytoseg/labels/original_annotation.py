"""What the files that crops were imported from said: kept beside the label maps, so that an export gives it back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytoseg.errors import LabelError
from cytoseg.formats.json_files import load_json
from cytoseg.formats.sidecar import Origin, parse_origin
from cytoseg.geometry import Region
from cytoseg.quoting import shown

FOLDER = "shapes"
AGAIN = "Run `cytoseg label-import` again."


@dataclass(frozen=True, eq=False)
class Kept:
    """The drawn shapes of one crop, with all that stood beside them; no shapes where it was imported as a mask.

    Attributes:
        origin: Slide and region, where known.
        labelme: The keys of the crop's labelme file without the image data.
        features: The GeoJSON features that lie in the crop, as they were in their file.
        area: What part of the features' coordinates the crop shows.
        frame: Number of the feature that delimits the crop, from 0; None where it is a whole picture.
    """

    origin: Origin | None = None
    labelme: Mapping[str, Any] | None = None
    features: tuple[Mapping[str, Any], ...] | None = None
    area: Region | None = None
    frame: int | None = None


def write_kept(folder: Path, crop: str, kept: Kept) -> None:
    """Write what is kept of a crop into a labels folder, in place of what was kept of it before."""
    path = _path(folder, crop)
    if kept.origin is None and kept.labelme is None and kept.features is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "origin": None if kept.origin is None else origin_entry(kept.origin),
        "labelme": kept.labelme,
        "features": kept.features,
        "area": None if kept.area is None else kept.area.as_json(),
        "frame": kept.frame,
    }
    path.write_text(json.dumps(content) + "\n", encoding="ascii")


def read_kept(folder: Path, crop: str) -> Kept:
    """Read what is kept of a crop.

    Args:
        folder: The labels folder.
        crop: The crop's id.

    Returns:
        What is kept; nothing for a crop that was imported as a mask, or by a version that kept nothing.

    Raises:
        LabelError: If the file is damaged.
    """
    path = _path(folder, crop)
    if not path.exists():
        return Kept()
    content = load_json(path, name=str(path), again=AGAIN)
    try:
        return _parsed(content, str(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LabelError(f"{path}: is damaged ({type(error).__name__}: {error}). {AGAIN}") from error


def _parsed(content: Any, name: str) -> Kept:
    origin, labelme, features, area = (content[key] for key in ("origin", "labelme", "features", "area"))
    frame = content["frame"]
    if frame is not None and not (type(frame) is int and 0 <= frame < len(features or ())):
        raise ValueError(f"frame {shown(frame)} is none of the features")
    return Kept(
        None if origin is None else parse_origin(origin, name=name),
        None if labelme is None else dict(labelme.items()),
        None if features is None else tuple(dict(feature.items()) for feature in features),
        None if area is None else Region.from_json(area),
        frame,
    )


def origin_entry(origin: Origin) -> dict[str, Any]:
    """Give the keys of a sidecar that says this origin."""
    return {"slide": origin.slide, "region": None if origin.region is None else origin.region.as_json()}


def _path(folder: Path, crop: str) -> Path:
    return folder / FOLDER / f"{crop}.json"
