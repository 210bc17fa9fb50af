"""The original annotation of imported crops, kept for lossless export."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytoseg.errors import LabelError
from cytoseg.formats.json_files import load_json
from cytoseg.formats.sidecar import Origin, parse_origin
from cytoseg.geometry import Region
from cytoseg.quoting import short_repr

FOLDER = "shapes"
ADVICE = "Run `cytoseg label-import` again."


@dataclass(frozen=True, eq=False)
class OriginalAnnotation:
    """The original shapes of one crop with their metadata; no shapes if it was imported as a mask.

    Attributes:
        origin: Slide and region, if known.
        labelme: The keys of the crop's labelme file without the image data.
        features: The GeoJSON features inside the crop, unmodified.
        area: The part of the features' coordinate space shown by the crop.
        frame: Index of the feature that delimits the crop; None for a whole image.
    """

    origin: Origin | None = None
    labelme: Mapping[str, Any] | None = None
    features: tuple[Mapping[str, Any], ...] | None = None
    area: Region | None = None
    frame: int | None = None


def write_original(folder: Path, crop: str, kept: OriginalAnnotation) -> None:
    """Write the original annotation of a crop into a labels folder, replacing an earlier one."""
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


def read_original(folder: Path, crop: str) -> OriginalAnnotation:
    """Read the original annotation of a crop.

    Args:
        folder: The labels folder.
        crop: The crop's id.

    Returns:
        The original annotation; empty for a crop imported as a mask or by an old version.

    Raises:
        LabelError: If the file is damaged.
    """
    path = _path(folder, crop)
    if not path.exists():
        return OriginalAnnotation()
    content = load_json(path, name=str(path), advice=ADVICE)
    try:
        return _parsed(content, str(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LabelError(f"{path}: is damaged ({type(error).__name__}: {error}). {ADVICE}") from error


def _parsed(content: Any, name: str) -> OriginalAnnotation:
    origin, labelme, features, area = (content[key] for key in ("origin", "labelme", "features", "area"))
    frame = content["frame"]
    if frame is not None and not (type(frame) is int and 0 <= frame < len(features or ())):
        raise ValueError(f"frame {short_repr(frame)} is not one of the features")
    return OriginalAnnotation(
        None if origin is None else parse_origin(origin, name=name),
        None if labelme is None else dict(labelme.items()),
        None if features is None else tuple(dict(feature.items()) for feature in features),
        None if area is None else Region.from_json(area),
        frame,
    )


def origin_entry(origin: Origin) -> dict[str, Any]:
    """Return the sidecar keys for an origin."""
    return {"slide": origin.slide, "region": None if origin.region is None else origin.region.as_json()}


def _path(folder: Path, crop: str) -> Path:
    return folder / FOLDER / f"{crop}.json"
