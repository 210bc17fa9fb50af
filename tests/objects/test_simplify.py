import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from shapely import MultiPolygon, Polygon, unary_union
from shapely.geometry import shape

from cytoseg.classes import ClassList
from cytoseg.labels.outlines import outline
from cytoseg.objects.geojson import ObjectFile, Outlined
from cytoseg.objects.simplify import MIN_IOU, REACH_PX, Points, _meet, simplified, unsimplified

Mask = NDArray[np.bool_]


def joined(rings: list[list[Points]]) -> Polygon | MultiPolygon:
    parts = [Polygon(ring[0], ring[1:]) for ring in rings]
    assert all(part.is_valid and part.exterior.is_ccw for part in parts)  # in a frame whose y goes up
    return unary_union(parts)


def iou(mask: Mask) -> float:
    polygons = outline(mask)
    exact, found = joined(unsimplified(polygons)), joined(simplified(polygons))
    return float(exact.intersection(found).area / exact.union(found).area)


def blobs() -> Iterator[Mask]:
    """Wavy ellipses of 3 to 60 px, some with holes."""
    rng = np.random.default_rng(0)
    for radius in (3, 6, 10, 15, 20, 30, 60):
        side = 3 * radius + 6
        y, x = np.mgrid[:side, :side] - side / 2 + 0.5
        angle = np.arctan2(y, x)
        wave = radius * (1 + 0.1 * np.sin(3 * angle + rng.random() * 6) + 0.05 * np.sin(7 * angle))
        distance = np.hypot(x, y * 1.1)
        yield distance < wave
        yield (distance < wave) & (np.hypot(x - radius / 4, y) > radius / 4)


def corners(rings: list[list[Points]]) -> int:
    return sum(len(ring) for polygon in rings for ring in polygon)


@pytest.mark.parametrize("mask", list(blobs()))
def test_outlines_keep_area_place_and_holes(mask: Mask) -> None:
    polygons = outline(mask)
    exact, found = unsimplified(polygons), simplified(polygons)
    assert [len(polygon) for polygon in found] == [len(polygon) for polygon in exact]
    assert iou(mask) >= MIN_IOU
    # Across a segment and beyond its end an outline may be that far away.
    assert joined(found).hausdorff_distance(joined(exact)) <= REACH_PX * 2**0.5


def test_large_objects_have_a_tenth_of_the_corners() -> None:
    y, x = np.mgrid[:140, :140] - 69.5
    polygons = outline(np.hypot(x, y) < 60)
    assert (corners(simplified(polygons)), corners(unsimplified(polygons))) == (21, 284)


def test_a_slanting_edge_becomes_a_line_and_a_straight_one_stays() -> None:
    triangle = np.tril(np.ones((80, 80), np.bool_))
    (rings,) = simplified(outline(triangle))
    assert len(rings[0]) <= 8
    box = np.ones((80, 100), np.bool_)
    (rings,) = simplified(outline(box))
    assert len(rings[0]) <= 8
    assert Polygon(rings[0]).area == pytest.approx(8000, rel=0.02)


@pytest.mark.parametrize("mask", [np.ones((1, 1)), np.ones((1, 9)), np.ones((3, 3)), np.eye(2), np.eye(5)])
def test_the_smallest_stay_as_they_are(mask: NDArray[np.float64]) -> None:
    polygons = outline(mask > 0)
    for found, exact in zip(simplified(polygons), unsimplified(polygons), strict=True):
        np.testing.assert_array_equal(found, exact)


def test_lines_that_would_meet_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    polygons = outline(next(mask for mask in blobs() if mask.sum() > 2000))
    assert corners(simplified(polygons)) < corners(unsimplified(polygons))
    monkeypatch.setattr("cytoseg.objects.simplify._meet", lambda rings: True)
    assert corners(simplified(polygons)) == corners(unsimplified(polygons))


@pytest.mark.parametrize(
    ("rings", "meet"),
    [
        ([[(0, 0), (4, 0), (4, 4), (0, 4)]], False),
        ([[(0, 0), (4, 4), (4, 0), (0, 4)]], True),  # an hourglass
        ([[(0, 0), (4, 0), (2, 0)]], True),  # there and back
        ([[(0, 0), (9, 0), (9, 9), (0, 9)], [(2, 2), (2, 4), (4, 2)]], False),
        ([[(0, 0), (9, 0), (9, 9), (0, 9)], [(0, 2), (2, 4), (4, 2)]], True),  # the hole touches the edge
        ([[(0, 0), (9, 0), (9, 9), (0, 9)], [(7, 2), (7, 4), (11, 2)]], True),  # it reaches over it
    ],
)
def test_meeting_lines_are_found(rings: list[list[tuple[float, float]]], meet: bool) -> None:
    assert _meet([np.array(ring, float) for ring in rings]) == meet


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.7, 1.5, 3.0, 5.0]), st.integers(4, 70))
def test_any_mask_comes_out_valid_and_alike(seed: int, blur: float, side: int) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((side, side)), blur)
    areas, count = ndimage.label(noise > np.median(noise), np.ones((3, 3)))
    if count:
        mask = areas == np.argmax(np.bincount(areas.ravel())[1:]) + 1
        assert iou(mask) >= MIN_IOU
        polygons = outline(mask)
        assert [len(p) for p in simplified(polygons)] == [len(p) for p in unsimplified(polygons)]


def test_the_file_holds_simplified_outlines_where_they_are_not_to_be_exact(tmp_path: Path) -> None:
    y, x = np.mgrid[:90, :90] - 44.5
    mask = (np.hypot(x, y) < 40) & (np.hypot(x - 9, y) > 8)
    classes = ClassList(("background", "cell"), ((0, 0, 0), (9, 9, 9)), "background")
    texts = {}
    for exact in (True, False):
        path = tmp_path / f"{exact}.geojson"
        with ObjectFile(path, slide="s", classes=classes, downsample=2.0, exact=exact) as file:
            file.add(Outlined(1, 1, 100, 50, mask, {"area_px": 1 / 3}))
        texts[exact] = path.read_text()
    one, other = (json.loads(text)["features"][0] for text in texts.values())
    assert one["properties"] == other["properties"]
    assert one["properties"]["measurements"] == {"area_px": 0.3333}
    first, second = shape(one["geometry"]), shape(other["geometry"])
    assert second.is_valid
    assert len(second.interiors) == 1
    assert first.intersection(second).area / first.union(second).area >= MIN_IOU
    assert first.area == mask.sum() * 4
    sizes = [[len(ring.coords) for ring in (found.exterior, *found.interiors)] for found in (first, second)]
    assert sizes == [[189, 37], [18, 26]]


@pytest.mark.slow
def test_a_slide_of_cells_takes_a_third_of_an_outline_at_every_pixel_and_zipped_a_tenth(tmp_path: Path) -> None:
    """Both classes, small nuclei and larger cells, keep an IoU of .98 on average and each."""
    rng = np.random.default_rng(0)
    sizes, ious = {"steps": 0, "simple": 0}, []
    classes = ClassList(("background", "cell"), ((0, 0, 0), (9, 9, 9)), "background")
    path = tmp_path / "objects.geojson.zip"
    with ObjectFile(path, slide="s", classes=classes, downsample=1.0, exact=False) as file:
        for number in range(1, 41):
            mask = _wobbly(8.0 if number % 2 else 28.0, rng)
            ious.append(iou(mask))
            found = Outlined(number, 1, 90 * number, 500, mask, {"area_px": float(mask.sum()), "probability": 0.9})
            sizes["simple"] += len(json.dumps(file._feature(found), separators=(",", ":")))
            corners = [ring for polygon in unsimplified(outline(mask)) for ring in polygon]
            steps = sum(int(np.abs(ring - np.roll(ring, 1, axis=0)).sum()) for ring in corners)
            sizes["steps"] += len("[12345,12345],") * steps + 250
            file.add(found)
    assert sizes["simple"] < 0.35 * sizes["steps"]
    assert path.stat().st_size < 0.1 * sizes["steps"]
    assert min(ious) >= MIN_IOU


def _wobbly(radius: float, rng: np.random.Generator) -> Mask:
    y, x = np.mgrid[:90, :90] - 44.5
    angle = np.arctan2(y, x)
    wobble = sum(0.08 / k * np.cos(k * angle + rng.uniform(0, 6.28)) for k in (2, 3, 5))
    mask = np.hypot(x, y) <= radius * (1 + wobble)
    return np.asarray(mask[np.ix_(mask.any(1), mask.any(0))], np.bool_)


def test_thin_tails_stay() -> None:
    mask = np.zeros((60, 120), np.bool_)
    mask[:, :60] = True
    mask[30, 60:] = True  # 60 px, 1.6 % of the area
    (rings,) = simplified(outline(mask))
    assert rings[0].max(axis=0).tolist() == [120, 60]
