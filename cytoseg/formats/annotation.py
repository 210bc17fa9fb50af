"""Drawn shapes of one image, and painting them into a label map.

Rules, all in continuous coordinates with (0, 0) at the top left corner of the top left pixel:

- An area (polygon, rectangle, circle, oriented rectangle) covers the pixels whose centre is inside. One too small or
  thin to contain a pixel centre covers the pixels it touches. The holes of a polygon are not covered.
- A line covers the pixels it passes through, a point the pixel it lies in, a mask its own pixels.
- Shapes are painted in the order of the file: later ones cover earlier ones. Shapes are clipped to the image.
- ``_background_`` paints the fill class (or ignore, if there is none) and so makes a hole; ``__ignore__`` paints
  ignore.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError, report
from cytoseg.formats import raster
from cytoseg.geometry import Size

HOLE = "_background_"
"""Label of a hole: the same as unmarked pixels."""

UNSCORED = "__ignore__"
"""Label of an area that is neither trained on nor scored."""

AreaRule = Literal["centre", "outline"]
"""How areas are filled. ``centre``: by the pixel-centre rule, unbiased in size; for shapes drawn by hand. ``outline``:
also the pixels under the outline, half a pixel larger on each side; for shapes traced from pixel indices, or to match
label maps painted by labelme."""

Kind = Literal["polygon", "rectangle", "circle", "line", "linestrip", "point", "points", "mask", "oriented_rectangle"]

_NOT_AREAS: tuple[Kind, ...] = ("line", "linestrip", "point", "points", "mask")

_MAX_EDGES = 5000
"""Most edges of an area without a pixel centre that are followed; of one with more, only the corners count."""

POINT_COUNTS: dict[Kind, tuple[int, int | None]] = {
    "polygon": (3, None),
    "rectangle": (2, 2),
    "circle": (2, 2),
    "line": (2, 2),
    "linestrip": (2, None),
    "point": (1, 1),
    "points": (1, None),
    "mask": (2, 2),
    "oriented_rectangle": (4, 4),
}
"""Minimum and maximum number of points per kind of shape."""


@dataclass(frozen=True, eq=False)
class Shape:
    """One drawn shape.

    Attributes:
        label: Name of its class, or ``_background_`` or ``__ignore__``.
        kind: What its points mean: corners of a polygon; two opposite corners of a rectangle; centre of a circle and a
            point on it; ends of a line; and so on; first and last pixel of a mask (only the first is used).
        points: (x, y) in pixels.
        group_id: Number shared by the shapes of one object.
        mask: (h, w) bool, for masks only.
        holes: Rings of (x, y) cut out of a polygon.
        where: Its name in messages, such as ``slide_01.geojson, feature 7``; if empty, its number is used.
    """

    label: str
    kind: Kind
    points: tuple[tuple[float, float], ...]
    group_id: int | None = None
    mask: NDArray[np.bool_] | None = None
    holes: tuple[tuple[tuple[float, float], ...], ...] = ()
    where: str = ""


@dataclass(frozen=True, eq=False)
class Annotation:
    """All marks of one image, in paint order.

    Attributes:
        name: Its name in messages, such as ``cell_07.json``.
        size: Size of the image.
        shapes: First painted first.
    """

    name: str
    size: Size
    shapes: tuple[Shape, ...]

    def placed(self) -> list[tuple[str, Shape]]:
        """Return each shape with its name in messages."""
        return [(s.where or f"{self.name}, shape {number}", s) for number, s in enumerate(self.shapes, start=1)]


def paint(annotation: Annotation, classes: ClassList, *, area: AreaRule = "centre") -> NDArray[np.uint8]:
    """Paint an annotation by the rules at the top of this file.

    Args:
        annotation: Shapes whose labels are all in the class list.
        classes: Class list for the ids.
        area: How areas are filled.

    Returns:
        (H, W) uint8 label map, 255 where unlabelled.

    Raises:
        LabelError: Lists all labels that are not in the class list and all shapes outside the image.
    """
    problems: list[str] = []
    label_map = paint_collecting(annotation, classes, area=area, problems=problems)
    if problems:
        raise LabelError(report(problems, what=annotation.name))
    return label_map


def paint_collecting(
    annotation: Annotation, classes: ClassList, *, area: AreaRule, problems: list[str]
) -> NDArray[np.uint8]:
    """Paint like ``paint``, but append problems to a list, so that several files can be reported together.

    Args:
        annotation: Shapes; those that cannot be painted are skipped.
        classes: Class list for the ids.
        area: How areas are filled.
        problems: One sentence is added for each shape that cannot be painted.

    Returns:
        (H, W) uint8 label map, valid only if no problem was added.
    """
    values = {name: i for i, name in enumerate(classes.names)} | {HOLE: classes.fill_id, UNSCORED: IGNORE}
    size = annotation.size
    label_map = np.full((size.height, size.width), classes.fill_id, np.uint8)
    stamps = all_covered(annotation.shapes, size, area=area)
    for (where, shape), stamp in zip(annotation.placed(), stamps, strict=True):
        if shape.label not in values:
            known = ", ".join(classes.names)
            problems.append(
                f"{where}: label '{shape.label}' is not in the class list ({known}). Rename it or add it to the recipe."
            )
            continue
        if stamp.empty:
            here = f"the {size.width}x{size.height} image"
            problems.append(f"{where}: the {shape.kind} '{shape.label}' lies outside {here}. Move or delete it.")
        stamp.press(label_map, values[shape.label])
    return label_map


def covered(shape: Shape, size: Size, *, area: AreaRule) -> raster.Stamp:
    """Find the pixels covered by a shape.

    Args:
        shape: Any kind.
        size: Size of the image.
        area: How areas are filled.

    Returns:
        The pixels; empty only if the shape lies outside the image or is an empty mask.
    """
    return next(all_covered([shape], size, area=area))


def all_covered(shapes: Sequence[Shape], size: Size, *, area: AreaRule) -> Iterator[raster.Stamp]:
    """Yield what ``covered`` returns for each of many shapes; their rings are filled many at a time."""
    filled = raster.fill_rings((ring for shape in shapes for ring in _rings_of(shape)[area == "outline" :]), size)
    for shape in shapes:
        if shape.kind in _NOT_AREAS:
            yield _not_an_area(shape, size)
            continue
        stamp = raster.ring_outline(ring_of(shape), size) if area == "outline" else next(filled)
        for _ in shape.holes:
            stamp = stamp.without(next(filled))
        yield _edge_pixels(ring_of(shape), size) if stamp.empty else stamp


def _rings_of(shape: Shape) -> list[NDArray[np.float64]]:
    """Return the outer ring of an area and its holes; nothing for other shapes."""
    if shape.kind in _NOT_AREAS:
        return []
    return [ring_of(shape), *(np.array(hole, np.float64) for hole in shape.holes)]


def _not_an_area(shape: Shape, size: Size) -> raster.Stamp:
    if shape.mask is not None:
        x, y = mask_place(shape)
        return raster.placed_mask(shape.mask, x=x, y=y, size=size)
    points = np.array(shape.points, np.float64)
    is_line = shape.kind in ("line", "linestrip")
    return raster.path_pixels(points, size) if is_line else raster.point_pixels(points, size)


def mask_place(shape: Shape) -> tuple[int, int]:
    """Return column and row of the pixel nearest to a mask's first pixel, possibly outside the image."""
    (x, y), *_ = shape.points
    return ceil(x - 0.5), ceil(y - 0.5)


def _edge_pixels(ring: NDArray[np.float64], size: Size) -> raster.Stamp:
    """Find the pixels that the outline of an area touches.

    For one between pixel centres: too small for the rule, but drawn on purpose. Many corners are also close together.
    """
    if len(ring) > _MAX_EDGES:
        return raster.point_pixels(ring, size)
    return raster.path_pixels(np.concatenate([ring, ring[:1]]), size)


def ring_of(shape: Shape) -> NDArray[np.float64]:
    """Return the corners of an area, (N, 2) float64 in pixels; a circle becomes a many-cornered ring."""
    points = np.array(shape.points, np.float64)
    if shape.kind == "rectangle":
        (x0, y0), (x1, y1) = points
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    if shape.kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        # With 8 corners per pixel of radius, at least 64, the ring is within 0.01 pixel of the circle.
        corners = min(max(64, 8 * int(np.ceil(radius))), 4096)
        angle = np.arange(corners) * (2 * np.pi / corners)
        return np.asarray(points[0] + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    return points
