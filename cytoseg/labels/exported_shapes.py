"""Converting shapes to labelme entries and QuPath features."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cytoseg.classes import IGNORE, ClassList
from cytoseg.formats.annotation import UNSCORED, Shape, covered, mask_place, ring_of
from cytoseg.formats.json_files import Points
from cytoseg.geometry import Region, Size
from cytoseg.labels.outlines import outline

LABELME_VERSION = "5.5.0"
"""Version written into our labelme files: the first one with this format."""


def traced(label_map: NDArray[np.uint8], classes: ClassList) -> list[Shape]:
    """Trace a label map along pixel edges; painting the shapes reproduces it exactly.

    Args:
        label_map: (H, W) uint8 ids, 255 for ignore.
        classes: Names of the ids; the class of unmarked pixels is not traced.

    Returns:
        Polygons with holes that do not overlap, class by class.
    """
    names = [*enumerate(classes.names), (IGNORE, UNSCORED)]
    shapes = []
    for number, name in names:
        if number != classes.fill_id:
            shapes += [_polygon(name, part) for part in _parts(label_map == number)]
    return shapes


def labelme_shape(shape: Shape, *, group_id: int | None = None, description: str = "") -> dict[str, Any]:
    """Convert a shape to a labelme entry; labelme has no holes, so slits connect them to the outline.

    Args:
        shape: In the image's pixels; not a mask.
        group_id: Shared by the parts of one object.
        description: Text shown by labelme.

    Returns:
        The entry, which covers the same pixels by the pixel-centre rule.
    """
    assert shape.kind != "mask"
    return {
        "label": shape.label,
        "points": [list(point) for point in (_slit(shape) if shape.holes else shape.points)],
        "group_id": group_id,
        "description": description,
        "shape_type": shape.kind,
        "flags": {},
        "mask": None,
    }


def qupath_feature(shape: Shape, entry: Mapping[str, Any], classes: ClassList) -> dict[str, Any]:
    """Convert a labelme shape to a QuPath annotation.

    Args:
        shape: Any kind; a circle becomes a polygon of many corners, a mask its pixel outline.
        entry: The labelme entry it was read from; its description becomes the name, and other labelme keys
            unknown to QuPath go into the metadata.
        classes: Class list for the colour.

    Returns:
        The feature, in the coordinates of the shape.
    """
    colours = dict(zip(classes.names, classes.colours, strict=True))
    colour = {"color": list(colours[shape.label])} if shape.label in colours else {}
    properties: dict[str, Any] = {
        "objectType": "annotation",
        "classification": {"name": shape.label, **colour},
    }
    if entry.get("description"):
        properties["name"] = str(entry["description"])
    known = ("label", "points", "shape_type", "mask", "description")
    metadata = {key: json.dumps(value) for key, value in entry.items() if key not in known and value not in (None, {})}
    if metadata:
        properties["metadata"] = metadata
    return {"type": "Feature", "geometry": _geometry(shape), "properties": properties}


def frame_feature(region: Region, *, name: str, label: str) -> dict[str, Any]:
    """Convert a region, in level-0 pixels, to a QuPath rectangle of a class."""
    x1, y1 = region.x + region.width, region.y + region.height
    corners = ((region.x, region.y), (x1, region.y), (x1, y1), (region.x, y1))
    properties = {"objectType": "annotation", "classification": {"name": label}, "name": name, "isLocked": True}
    return {"type": "Feature", "geometry": _geometry(Shape(label, "polygon", corners)), "properties": properties}


def outside(frame: Sequence[Shape], size: Size) -> list[Shape]:
    """Trace the part of a crop outside the annotated area that delimits it, as ignore.

    Args:
        frame: The parts of the area, in the crop's pixels.
        size: Size of the crop.

    Returns:
        Polygons with holes; none for a rectangle that fills the crop.
    """
    left = np.ones((size.height, size.width), np.uint8)
    for shape in frame:
        covered(shape, size, area="centre").press(left, 0)
    return [_polygon(UNSCORED, part) for part in _parts(left.astype(np.bool_))]


def moved_feature(feature: Mapping[str, Any], *, before: Region, after: Region) -> dict[str, Any]:
    """Translate and scale a feature from one region to another."""
    x, y = after.width / before.width, after.height / before.height

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: moved(v) if k in ("coordinates", "geometries") else v for k, v in value.items()}
        if not isinstance(value, list):
            return value
        if len(value) >= 2 and all(type(number) in (int, float) for number in value[:2]):
            return [(value[0] - before.x) * x + after.x, (value[1] - before.y) * y + after.y, *value[2:]]
        return [moved(part) for part in value]

    return {k: moved(v) if k in ("geometry", "nucleusGeometry") else v for k, v in feature.items()}


def _parts(mask: NDArray[np.bool_], x: int = 0, y: int = 0) -> list[list[Points]]:
    """Trace a mask with its top left corner at (x, y); return exterior and holes of each part."""
    rings = [[polygon.exterior, *polygon.holes] for polygon in outline(mask)]
    return [[tuple((float(px + x), float(py + y)) for px, py in ring.tolist()) for ring in part] for part in rings]


def _polygon(label: str, rings: Sequence[Points]) -> Shape:
    return Shape(label, "polygon", rings[0], holes=tuple(rings[1:]))


def _slit(shape: Shape) -> Points:
    """Join a polygon and its holes into one ring: along a slit to each hole, around it, and back.

    The two sides of a slit cancel by the even-odd rule. It runs along the axes, so that a pixel outline stays one.
    """
    ring = list(shape.points)
    for hole in shape.holes:
        # Not all pairs at once: thousands of corners would take gigabytes.
        apart, nearest = cKDTree(np.array(hole)).query(np.array(ring), p=1)
        here = int(apart.argmin())
        there = int(nearest[here])
        corner = (hole[there][0], ring[here][1])
        ring[here:here] = [ring[here], corner, *hole[there:], *hole[: there + 1], corner]
    return tuple(ring)


def _geometry(shape: Shape) -> dict[str, Any]:
    points = [list(point) for point in shape.points]
    match shape.kind:
        case "point":
            return {"type": "Point", "coordinates": points[0]}
        case "points":
            return {"type": "MultiPoint", "coordinates": points}
        case "line" | "linestrip":
            return {"type": "LineString", "coordinates": points}
        case "mask":
            assert shape.mask is not None
            parts = _parts(shape.mask, *mask_place(shape))
            return {"type": "MultiPolygon", "coordinates": [[_closed(ring) for ring in part] for part in parts]}
        case "polygon":
            rings = [_closed(ring) for ring in (shape.points, *shape.holes)]
            return {"type": "Polygon", "coordinates": rings}
        case _:
            return {"type": "Polygon", "coordinates": [_closed(ring_of(shape).tolist())]}


def _closed(ring: Sequence[Sequence[float]]) -> list[list[float]]:
    return [list(point) for point in (*ring, ring[0])]
