"""Reading GeoJSON exported by QuPath 0.2 to 0.6.

Assumptions:

- The file is a FeatureCollection, a list of features (0.2), or one feature. Scripts that join exports also write
  collections within lists and collections. Coordinates are pixels of level 0, (0, 0) at the top left corner of the top
  left pixel.
- ``properties.classification`` holds ``name``, or since 0.4 for derived classes ``names``, joined by ": " as shown by
  QuPath; and ``color`` (before 0.4 ``colorRGB``). It is absent or null for objects without a class.
- ``properties.objectType`` (0.3: ``object_type``) is annotation, detection, cell, tile, tma_core or root. In 0.2 the
  ``id`` says the same: PathAnnotationObject, PathTileObject and so on.
- ``nucleusGeometry`` beside ``geometry`` is the nucleus of a cell object.
- ``geometry.plane`` holds ``z`` and ``t`` of an object that is not on the first plane.
- Objects have no drawing order; QuPath draws small ones over large ones.
- A region whose ``name`` is ``crop=`` and an id becomes the crop with that id, as named by `label-export`.
- Other properties (``name``, ``isLocked``, ``measurements``, ``metadata``, ``id``) are preserved without
interpretation.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cytoseg.errors import LabelError
from cytoseg.formats.annotation import Shape
from cytoseg.formats.json_files import Inspected, Points, check_line, checked_points, kind_of
from cytoseg.quoting import short_repr

REGION = "Region*"
"""QuPath's class for exhaustively annotated areas; it delimits a crop."""

CROP_NAME = "crop="
"""Prefix of a crop's id in the name of its region."""

NOT_SCORED = "Ignore*"
"""QuPath's class for areas excluded from training."""

ADVICE = "Export it again from QuPath."
_NOT_DRAWN = ("tile", "tma_core", "root", "pathtileobject", "tmacoreobject", "pathrootobject")
_COLLECTION = "FeatureCollection"
_NAMED = 5  # planes in a message
_DRAW_AGAIN = "Draw it again or delete it."


@dataclass(frozen=True, eq=False)
class Feature:
    """One object of a GeoJSON file.

    Attributes:
        number: Its position in the file, from 1.
        where: Its name in messages.
        raw: The complete feature as in the file.
        label: Name of its class; empty if it is skipped.
        shapes: One per part, in level-0 pixels; none if it is skipped.
    """

    number: int
    where: str
    raw: Mapping[str, Any]
    label: str = ""
    shapes: tuple[Shape, ...] = ()

    @property
    def name(self) -> str:
        """Its ``name``; empty if it has none."""
        found = (self.raw.get("properties") or {}).get("name")
        return found if isinstance(found, str) else ""

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of all its shapes, in level-0 pixels."""
        x, y = zip(*(point for shape in self.shapes for point in shape.points), strict=True)
        return min(x), min(y), max(x), max(y)


@dataclass(frozen=True, eq=False)
class GeoFile:
    """A GeoJSON file: its name in messages, its features, and counts of skipped ones by reason."""

    name: str
    features: tuple[Feature, ...]
    left_out: Counter[str]


def is_geojson(content: object) -> bool:
    """Return whether parsed JSON contains GeoJSON features."""
    if isinstance(content, list):
        return bool(content) and is_geojson(content[0])
    return isinstance(content, dict) and content.get("type") in (_COLLECTION, "Feature")


def read_geojson(
    path: Path, *, name: str, problems: list[str], member: str | None = None, inspected: Inspected | None = None
) -> GeoFile | None:
    """Read a GeoJSON file.

    Args:
        path: The file.
        name: Its name in messages.
        problems: One sentence is added per problem.
        member: Which file of a .zip; None if it contains only one.
        inspected: Content of files that were parsed before.

    Returns:
        The content, or None if a problem was added.
    """
    try:
        loaded = (inspected or Inspected()).take(path, name=name, advice=ADVICE, member=member)
        entries = _entries(loaded.content, name)
    except LabelError as error:
        problems.append(str(error))
        return None
    before = len(problems)
    file = read_features(entries, name=name, problems=problems)
    return file if len(problems) == before else None


def read_features(entries: Sequence[object], *, name: str, problems: list[str]) -> GeoFile:
    """Read GeoJSON features.

    Args:
        entries: Parsed JSON.
        name: Name of their file in messages.
        problems: One sentence is added per invalid feature, and if they are on several planes of a stack.

    Returns:
        The valid features.
    """
    left_out: Counter[str] = Counter()
    features = []
    for number, entry in enumerate(entries, start=1):
        try:
            features.append(_read_feature(entry, number, f"{name}, feature {number}", left_out))
        except LabelError as error:
            problems.append(str(error))
    planes = sorted({_plane_of(feature) for feature in features if feature.shapes})
    if len(planes) > 1:
        shown = "; ".join(planes[:_NAMED])
        problems.append(
            f"{name}: its annotations are on {len(planes)} planes ({shown}), but cytoseg reads one. "
            "Delete those on the others in QuPath."
        )
    return GeoFile(name, tuple(features), left_out)


def _plane_of(feature: Feature) -> str:
    plane = feature.raw["geometry"].get("plane")
    z, t = (plane.get("z", 0), plane.get("t", 0)) if isinstance(plane, dict) else (0, 0)
    return f"z {short_repr(z)}, t {short_repr(t)}"


def _entries(content: object, name: str) -> Sequence[object]:
    if content == [] or is_geojson(content):
        return list(_one_by_one(content, name))
    if isinstance(content, dict) and "shapes" in content:
        raise LabelError(f"{name}: is a labelme file, not GeoJSON. Unpack it as .json beside its image.")
    raise LabelError(f"{name}: holds {kind_of(content)} without GeoJSON features. {ADVICE}")


def _one_by_one(content: object, name: str) -> Iterator[object]:
    """Yield the features of lists and collections within each other; their depth was limited when they were parsed."""
    if isinstance(content, list):
        for part in content:
            yield from _one_by_one(part, name)
    elif isinstance(content, dict) and content.get("type") == _COLLECTION:
        features = content.get("features")
        if not isinstance(features, list):
            raise LabelError(f"{name}: 'features' is {kind_of(features)}, but must be a list. {ADVICE}")
        yield from _one_by_one(features, name)
    else:
        yield content


def _read_feature(entry: object, number: int, where: str, left_out: Counter[str]) -> Feature:
    if not isinstance(entry, dict) or entry.get("type") != "Feature":
        raise LabelError(f"{where}: is {kind_of(entry)}, not a GeoJSON feature. {ADVICE}")
    properties = entry.get("properties") or {}
    if not isinstance(properties, dict):
        raise LabelError(f"{where}: 'properties' is {kind_of(properties)}, but must be an object. {ADVICE}")
    label = _class_name(properties, where)
    kind = properties.get("objectType") or properties.get("object_type") or entry.get("id")
    if str(kind).lower() in _NOT_DRAWN:
        reason = "tiles and cores"
    elif not label:
        reason = "without a class"
    else:
        shapes = _read_geometry(entry.get("geometry"), label, where)
        if shapes:
            left_out["nuclei within cell objects"] += entry.get("nucleusGeometry") is not None
            return Feature(number, where, entry, label, shapes)
        reason = "without a geometry"
    left_out[reason] += 1
    return Feature(number, where, entry)


def _class_name(properties: Mapping[str, Any], where: str) -> str:
    found = properties.get("classification")
    if isinstance(found, dict):
        names = found.get("names")
        found = found.get("name")
        if found is None and isinstance(names, list) and all(isinstance(name, str) for name in names):
            found = ": ".join(names)
    if found is None or isinstance(found, str):
        return (found or "").strip()
    raise LabelError(f"{where}: the class is {short_repr(found)}, but must have a name. Set it again in QuPath.")


def _read_geometry(geometry: object, label: str, where: str) -> tuple[Shape, ...]:
    if geometry is None:
        return ()
    if not isinstance(geometry, dict):
        raise LabelError(f"{where}: 'geometry' is {kind_of(geometry)}, but must be an object. {ADVICE}")
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        members = _list(geometry.get("geometries"), "geometries", where)
        if any(isinstance(member, dict) and member.get("type") == kind for member in members):
            raise LabelError(f"{where}: holds a collection within a collection. {_DRAW_AGAIN}")
        return tuple(shape for member in members for shape in _read_geometry(member, label, where))
    parts = _list(geometry.get("coordinates"), "coordinates", where)
    match kind:
        case "Point" | "LineString" | "MultiPoint" | "Polygon":
            parts = [parts]
        case "MultiLineString" | "MultiPolygon":
            pass
        case _:
            raise LabelError(f"{where}: the geometry {short_repr(kind)} is unknown. {_DRAW_AGAIN}")
    # QuPath writes an empty polygon as one empty ring.
    return tuple(_read_part(str(kind), part, label, where) for part in parts if part not in ([], [[]]))


def _read_part(kind: str, part: object, label: str, where: str) -> Shape:
    match kind:
        case "Point":
            return Shape(label, "point", _positions([part], where), where=where)
        case "MultiPoint":
            return Shape(label, "points", _positions(part, where), where=where)
        case "LineString" | "MultiLineString":
            points = _positions(part, where)
            check_line(points, where)
            if len(points) < 2:
                raise LabelError(f"{where}: a line has at least 2 points, found {len(points)}. {_DRAW_AGAIN}")
            return Shape(label, "line" if len(points) == 2 else "linestrip", points, where=where)
        case _:
            rings = [_ring(ring, where) for ring in _list(part, "coordinates", where)]
            if any(set(hole) == set(rings[0]) for hole in rings[1:]):
                raise LabelError(f"{where}: a hole covers all of it. {_DRAW_AGAIN}")
            return Shape(label, "polygon", rings[0], holes=tuple(rings[1:]), where=where)


def _ring(value: object, where: str) -> Points:
    """Read a ring without its repeated last point; an open ring is closed implicitly."""
    points = _positions(value, where)
    ring = points[:-1] if len(points) > 1 and points[0] == points[-1] else points
    if len(ring) < 3:
        raise LabelError(f"{where}: a ring has at least 3 corners, found {len(ring)}. {_DRAW_AGAIN}")
    return ring


def _positions(value: object, where: str) -> Points:
    if not isinstance(value, list) or not all(isinstance(p, list) and len(p) >= 2 for p in value):
        raise LabelError(f"{where}: coordinates must be lists of [x, y], found {short_repr(value)}. {_DRAW_AGAIN}")
    return checked_points(value, where)


def _list(value: object, key: str, where: str) -> list[object]:
    if not isinstance(value, list):
        raise LabelError(f"{where}: '{key}' is {kind_of(value)}, but must be a list. {_DRAW_AGAIN}")
    return value
