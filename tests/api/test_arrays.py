import re
from pathlib import Path

import numpy as np
import pytest

from cytoseg.api.arrays import as_class_names, as_groups, as_label_map, as_label_maps, as_list, as_picture
from cytoseg.errors import ArrayError

GREY = np.array([[0, 51], [102, 255]], np.uint8)
RGB = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)


def test_an_rgb_image_is_taken_as_it_is() -> None:
    assert as_picture(RGB) is RGB


@pytest.mark.parametrize("grey", [GREY, GREY[..., None]])
def test_grey_becomes_three_equal_channels(grey: np.ndarray) -> None:
    np.testing.assert_array_equal(as_picture(grey), np.stack([GREY] * 3, axis=-1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_scaled_when_asked_for(dtype: type) -> None:
    image = np.array([[0.0, 0.2], [0.4, 1.0]], dtype)
    np.testing.assert_array_equal(as_picture(image, value_range="0..1")[..., 1], GREY)


@pytest.mark.parametrize(
    ("image", "value_range", "problem"),
    [
        (GREY / 255.0, "0..255", "the image: holds float64, but must hold uint8 .* pass value_range='0..1'"),
        (GREY.astype(np.uint16), "0..255", "holds uint16, but must hold uint8 from 0 to 255. Scale it"),
        (GREY.astype(np.int64), "0..255", "holds int64"),
        (GREY > 100, "0..255", "holds bool"),
        (GREY, "0..1", "holds uint8, but value_range='0..1' is for float"),
        (GREY.astype(np.float32), "0..1", "numbers from 0 to 255, not from 0 to 1"),
        (np.full((2, 2), 1.000001), "0..1", r"numbers from 1\.000001 to 1\.000001, not from 0 to 1"),
        (np.array([[-0.1, 1.0]]), "0..1", "numbers from -0.1 to 1"),
        (np.array([[np.nan, 1.0]]), "0..1", "numbers from nan to nan"),
        (GREY, "0..2", "value_range: '0..2' is neither"),
        (GREY.tolist(), "0..255", "has type list, but must be a NumPy array"),
        (None, "0..255", "has type NoneType"),
        (Path("cell.png"), "0..255", r"has type \w*Path, .* Open the file first: numpy\.asarray\(PIL\.Image\.open"),
        (np.zeros((2, 2, 4), np.uint8), "0..255", r"shape \(2, 2, 4\).*Leave the alpha channel out"),
        (np.zeros((3, 5, 5), np.uint8), "0..255", r"shape \(3, 5, 5\), but must be \(H, W, 3\)"),
        (np.zeros((2, 2, 2, 3), np.uint8), "0..255", r"shape \(2, 2, 2, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), "0..255", r"shape \(0, 4, 3\)"),
        (np.zeros(7, np.uint8), "0..255", r"shape \(7,\)"),
    ],
)
def test_what_is_no_image_is_refused(image: object, value_range: str, problem: str) -> None:
    with pytest.raises(ArrayError, match=problem) as refused:
        as_picture(image, value_range=value_range)
    assert "\n" not in str(refused.value)


def test_label_maps_of_any_whole_numbers_are_taken() -> None:
    ids = as_label_map(np.array([[0, 1], [255, 1]], np.int64), classes=2)
    assert ids.dtype == np.uint8
    assert ids.tolist() == [[0, 1], [255, 1]]


@pytest.mark.parametrize(
    ("label_map", "problem"),
    [
        (np.array([[0, 2]]), "holds id 2, but ids go from 0 to 1, and 255 is ignore"),
        (np.array([[0, -1]]), "holds id -1"),
        (np.array([[0, 256]]), "holds id 256"),
        (np.zeros((2, 2)), r"is float64 \(2, 2\), but must be an array \(H, W\) of whole numbers"),
        (np.zeros((2, 2), bool), r"is bool .* Pass label_map.astype\(int\)\."),
        (np.zeros((2, 2, 1), int), r"int64 \(2, 2, 1\)"),
        ([[0, 1]], "is list"),
    ],
)
def test_what_is_no_label_map_is_refused(label_map: object, problem: str) -> None:
    with pytest.raises(ArrayError, match=problem):
        as_label_map(label_map, classes=2)


def test_a_stack_of_images_is_a_list_of_them() -> None:
    found = as_list(np.stack([RGB, RGB + 1]), name="images")
    np.testing.assert_array_equal(np.stack([np.asarray(each) for each in found]), np.stack([RGB, RGB + 1]))


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        (RGB, "images: is one array of shape (2, 2, 3), but a list of arrays is wanted: [array]."),
        (GREY, "images: is one array of shape (2, 2)"),
        ("slide.png", "images: has type str"),
        (5, "images: has type int"),
        ({"a.png": RGB}, "images: has type dict, but a list of arrays is wanted."),
    ],
)
def test_a_single_image_is_no_list(images: object, problem: str) -> None:
    with pytest.raises(ArrayError, match=re.escape(problem)):
        as_list(images, name="images")


def test_label_maps_fit_their_images() -> None:
    (found,) = as_label_maps(np.array([[[0, 1], [1, 255]]]), [RGB], 2)
    assert found.tolist() == [[0, 1], [1, 255]]
    with pytest.raises(ArrayError, match="label_maps: 0 for 1 images"):
        as_label_maps([], [RGB], 2)
    with pytest.raises(ArrayError, match=r"label_maps\[0\]: has shape \(1, 2\), its image \(2, 2\)"):
        as_label_maps([np.array([[0, 1]])], [RGB], 2)
    with pytest.raises(ArrayError, match=r"label_maps\[0\]: holds id 7"):
        as_label_maps([np.full((2, 2), 7)], [RGB], 2)


def test_groups_are_one_for_each_image() -> None:
    assert as_groups(np.array([3, 3, 5]), images=3) == ["3", "3", "5"]
    assert as_groups(None, images=3) is None
    with pytest.raises(ArrayError, match="groups: 2 for 3 images"):
        as_groups(["a", "b"], images=3)
    for wrong in (7, "abc", np.zeros((3, 2))):
        with pytest.raises(ArrayError, match=r"^groups: found .*, but a list is wanted, one value for each image"):
            as_groups(wrong, images=3)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_a_matrix_is_an_array() -> None:
    np.testing.assert_array_equal(as_picture(np.asmatrix(GREY))[..., 0], GREY)
    assert type(as_label_map(np.asmatrix([[0, 1]]), classes=2)) is np.ndarray


def test_masked_elements_are_refused() -> None:
    """They were read with the values below the mask."""
    np.testing.assert_array_equal(as_picture(np.ma.array(GREY))[..., 0], GREY)
    with pytest.raises(ArrayError, match=r"^the image: has masked elements, .* Pass array\.filled\(fill_value\)\.$"):
        as_picture(np.ma.masked_less(GREY, 60))
    with pytest.raises(ArrayError, match=r"^the label map: has masked elements, .* Pass array\.filled\(255\)\.$"):
        as_label_map(np.ma.masked_equal(np.array([[0, 1]]), 1), classes=2)


@pytest.mark.parametrize("names", [{"glass", "cell"}, frozenset(["glass"]), {"cell": 1, "glass": 0}, b"ab"])
def test_names_without_an_order_are_refused(names: object) -> None:
    """The order of a set changes from run to run, and so would the ids."""
    with pytest.raises(ArrayError, match=r"^classes: found .*, but a list of names is wanted, each once"):
        as_class_names(names)
    with pytest.raises(ArrayError, match=r"^groups: found .*, but a list is wanted, one value for each image"):
        as_groups(names, images=2)
