"""GeoJSON features as QuPath writes them."""

from typing import Any


def feature(label: str | None, *corners: tuple[float, float], **keys: Any) -> dict[str, Any]:
    """A QuPath annotation: a closed polygon, or whatever the keys put in place of it."""
    properties: dict[str, Any] = {"objectType": "annotation"}
    if label is not None:
        properties["classification"] = {"name": label, "color": [200, 0, 40]}
    ring = [list(corner) for corner in (*corners, corners[0])] if corners else []
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "id": "PathAnnotationObject", "geometry": geometry, "properties": properties} | keys


def box(label: str | None, x: float, y: float, width: float, height: float, **keys: Any) -> dict[str, Any]:
    """A QuPath rectangle."""
    return feature(label, (x, y), (x + width, y), (x + width, y + height), (x, y + height), **keys)
