import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from cytoseg.errors import SlideError
from cytoseg.geometry import Size
from cytoseg.synthetic.crops import generate_labelled_crops, trace
from cytoseg.synthetic.generate import CLASS_NAMES, generate_slide, labels_path


def paint(shapes: list[dict[str, Any]], height: int, width: int) -> NDArray[np.uint8]:
    """Paint polygons by the even-odd rule at pixel centres, in their order: slow, and not the package's own way."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    labels = np.zeros((height, width), np.uint8)
    for shape in shapes:
        inside = np.zeros((height, width), bool)
        points = shape["points"]
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            if y0 != y1:
                inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
        labels[inside] = CLASS_NAMES.index(shape["label"])
    return labels


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "made.ome.tif"
    generate_slide(path, size=Size(512, 448), seed=3, mpp=1.0)
    return path


def test_a_single_pixel_is_a_diamond_round_its_centre() -> None:
    labels = np.zeros((3, 4), np.uint8)
    labels[1, 2] = 2
    (shape,) = trace(labels)
    assert (shape["label"], shape["shape_type"]) == ("nucleus", "polygon")
    assert sorted(shape["points"]) == [[2.0, 1.5], [2.5, 1.0], [2.5, 2.0], [3.0, 1.5]]


def test_a_hole_is_painted_after_what_surrounds_it() -> None:
    labels = np.ones((7, 7), np.uint8)
    labels[1:6, 1:6] = 0
    labels[3, 3] = 2
    shapes = trace(labels)
    assert [shape["label"] for shape in shapes] == ["cytoplasm", "background", "nucleus"]
    np.testing.assert_array_equal(paint(shapes, 7, 7), labels)


def test_empty_glass_needs_no_polygon() -> None:
    assert trace(np.zeros((4, 4), np.uint8)) == []


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2)))
def test_painted_polygons_give_any_label_map_back(labels: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(paint(trace(labels), *labels.shape), labels)


def test_crops_carry_picture_labels_and_place(slide: Path, tmp_path: Path) -> None:
    files = generate_labelled_crops(slide, tmp_path / "crops", n=3, side_px=128, seed=1)
    assert len(files) == 3
    assert len(list((tmp_path / "crops").iterdir())) == 6
    whole, truth = tifffile.imread(slide), tifffile.imread(labels_path(slide))
    for file in files:
        annotation = json.loads(file.read_text())
        assert annotation["cytoseg"]["slide"] == "made"
        x, y, width, height = annotation["cytoseg"]["region"]
        assert (width, height) == (annotation["imageWidth"], annotation["imageHeight"]) == (128, 128)
        assert file.stem == f"made_{x}_{y}"
        assert (annotation["version"], annotation["imageData"]) == ("5.5.0", None)
        with Image.open(file.with_name(annotation["imagePath"])) as png:
            np.testing.assert_array_equal(np.asarray(png), whole[y : y + 128, x : x + 128])
        ids = truth[y : y + 128, x : x + 128]
        np.testing.assert_array_equal(paint(annotation["shapes"], 128, 128), ids)
        assert (ids > 0).mean() >= 0.2
        assert (ids == 2).any()


def test_the_seed_chooses_the_crops(slide: Path, tmp_path: Path) -> None:
    first, again, other = (
        {f.name for f in generate_labelled_crops(slide, tmp_path / str(i), n=2, side_px=64, seed=seed)}
        for i, seed in enumerate((1, 1, 2))
    )
    assert first == again
    assert first == {"made_448_320.json", "made_128_128.json"}
    assert other == {"made_320_384.json", "made_64_0.json"}


def test_too_few_places_with_cells_leave_nothing(slide: Path, tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"only \d of 50 crops of 256 px show cells"):
        generate_labelled_crops(slide, tmp_path / "crops", n=50, side_px=256)
    assert list((tmp_path / "crops").iterdir()) == []


def test_a_slide_without_label_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"its label map lonely\.labels\.ome\.tif is missing"):
        generate_labelled_crops(tmp_path / "lonely.ome.tif", tmp_path, n=1)
