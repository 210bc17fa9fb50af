import base64
import json
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.formats.annotation import paint
from cytoseg.formats.json_files import Inspected
from cytoseg.formats.labelme import LabelmeFile, find_labelme, read_labelme
from cytoseg.geometry import Region, Size
from cytoseg.slides.orientation import turned

Write = Callable[..., Path]


def png(array: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.array(array, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def base64_png(array: Any) -> str:
    return base64.b64encode(png(array)).decode()


def read_well(path: Path, root: Path | None = None) -> LabelmeFile:
    problems: list[str] = []
    file = read_labelme(path, root=root or path.parent, problems=problems)
    assert problems == []
    assert file is not None
    return file


def problems_of(path: Path, root: Path | None = None) -> list[str]:
    problems: list[str] = []
    assert read_labelme(path, root=root or path.parent, problems=problems) is None
    return problems


def test_a_file_gives_shapes_picture_and_names(tmp_path: Path, write_labelme: Write, square: dict[str, Any]) -> None:
    mask = {
        "label": "nucleus",
        "shape_type": "mask",
        "points": [[4.0, 1.0], [5.0, 2.0]],
        "mask": base64_png([[0, 255], [255, 0]]),
        "group_id": 7,
    }
    file = read_well(write_labelme(tmp_path, "a", [square, mask], grey=9))
    assert file.annotation.name == "a.json"
    assert file.annotation.size == Size(6, 4)
    assert file.stem == "a"
    assert file.origin is None
    assert file.picture.shape == (4, 6, 3)
    assert np.all(file.picture == 9)
    first, second = file.annotation.shapes
    assert (first.label, first.kind, first.points) == ("cell", "polygon", ((1, 1), (3, 1), (3, 3), (1, 3)))
    assert second.group_id == 7
    assert second.mask is not None
    assert second.mask.tolist() == [[False, True], [True, False]]


def test_a_shape_without_a_type_is_a_polygon(tmp_path: Path, write_labelme: Write, square: dict[str, Any]) -> None:
    del square["shape_type"]
    assert read_well(write_labelme(tmp_path, "a", [square])).annotation.shapes[0].kind == "polygon"


def test_a_file_of_an_old_version_says_no_size(tmp_path: Path, write_labelme: Write) -> None:
    path = write_labelme(tmp_path, "a", imageWidth=None, imageHeight=None)
    assert read_well(path).annotation.size == Size(6, 4)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path, write_labelme: Write) -> None:
    path = write_labelme(tmp_path, "a")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_well(path).stem == "a"


def test_image_data_comes_before_image_path(tmp_path: Path, write_labelme: Write) -> None:
    data = base64_png(np.full((4, 6, 3), 33))
    path = write_labelme(tmp_path, "a", imageData=data, imagePath="C:\\far\\away\\cell_07.png")
    file = read_well(path)
    assert np.all(file.picture == 33)
    assert file.stem == "cell_07"


@pytest.mark.parametrize("written", ["../images/p.png", "..\\images\\p.png", "..\\images/p.png"])
def test_slashes_of_either_kind(tmp_path: Path, write_labelme: Write, write_picture: Write, written: str) -> None:
    write_picture(tmp_path / "images" / "p.png", grey=5)
    path = write_labelme(tmp_path / "labelme", "p", imagePath=written)
    assert np.all(read_well(path, tmp_path).picture == 5)


@pytest.mark.parametrize("written", ["C:\\Users\\me\\a.png", "\\\\server\\share\\a.png", "/home/me/a.png", "C:a.png"])
def test_a_whole_path_is_looked_for_beside_the_file(tmp_path: Path, write_labelme: Write, written: str) -> None:
    assert np.all(read_well(write_labelme(tmp_path, "a", imagePath=written, grey=8)).picture == 8)


@pytest.mark.parametrize("written", ["D:\\far\\b.png", "/etc/hosts"])
def test_a_whole_path_with_nothing_beside_is_refused(tmp_path: Path, write_labelme: Write, written: str) -> None:
    path = write_labelme(tmp_path, "a", imagePath=written)
    path.with_suffix(".png").unlink()
    (problem,) = problems_of(path)
    assert "is an absolute path and" in problem
    assert "is not next to the file" in problem


@pytest.mark.parametrize(
    ("written", "lies"),
    [
        ("P.JPG", "p.jpg"),
        ("p.jpg", "p.JPEG"),
        ("p", "p.png"),
        ("..\\Images\\p.PNG", "images/p.png"),
        ("p\u00f6.png", "po\u0308.png"),
        ("..\\Bu\u0308ro\\p.png", "b\u00fcro/p.png"),
    ],
)
def test_capitals_and_missing_suffixes_do_not_matter(
    tmp_path: Path, write_labelme: Write, write_picture: Write, written: str, lies: str
) -> None:
    folder = tmp_path if "/" in lies else tmp_path / "labels"
    write_picture(folder / lies, grey=8)
    path = write_labelme(tmp_path / "labels", "a", imagePath=written)
    file = read_well(path, tmp_path)
    assert int(file.picture[0, 0, 0]) == pytest.approx(8, abs=1)
    assert (file.stem, file.renamed) == (Path(lies).stem, False)


@pytest.mark.parametrize(
    ("written", "named"),
    [("Hello.jpg", "a.png"), ("Hello", "a.png"), ("b.jpg", "a.png or b.png"), ("D:\\b.jpg", "b.png")],
)
def test_the_picture_that_does_lie_there_is_named(
    tmp_path: Path, write_labelme: Write, write_picture: Write, written: str, named: str
) -> None:
    path = write_labelme(tmp_path, "a", imagePath=written)
    if "b" in written:
        write_picture(tmp_path / "b.png")
    (problem,) = problems_of(path)
    assert f"a.json: the image '{written}' " in problem
    assert f"{named}, write that as imagePath." in problem


@pytest.mark.parametrize("written", ["Hello.png", "Hello.PNG", "D:\\scans\\Hello.png", "../raw/Hello.png"])
def test_a_pair_that_was_renamed_together_is_read(tmp_path: Path, write_labelme: Write, written: str) -> None:
    file = read_well(write_labelme(tmp_path / "in", "a", imagePath=written, grey=8), tmp_path)
    assert np.all(file.picture == 8)
    assert (file.stem, file.renamed) == ("a", True)


def test_a_pair_that_was_renamed_together_must_fit_in_size(tmp_path: Path, write_labelme: Write) -> None:
    path = write_labelme(tmp_path, "a", imagePath="Hello.png", imageWidth=60)
    assert "the file says 60x4 pixels, but the image has 6x4" in problems_of(path)[0]


def test_of_two_pictures_that_a_renamed_file_may_mean_none_is_taken(
    tmp_path: Path, write_labelme: Write, write_picture: Write
) -> None:
    path = write_labelme(tmp_path, "a", imagePath="Hello.png")
    write_picture(tmp_path / "a.PNG")
    assert "a.PNG or a.png, write that as imagePath." in problems_of(path)[0]


def test_only_another_stem_is_another_name(tmp_path: Path, write_labelme: Write) -> None:
    for written in ("a.png", "A.PNG", "a", "C:\\x\\a.png"):
        assert not read_well(write_labelme(tmp_path, "a", imagePath=written)).renamed


def test_a_file_with_a_suffix_in_capitals_is_found(tmp_path: Path, write_labelme: Write, write_picture: Write) -> None:
    write_labelme(tmp_path, "a").rename(tmp_path / "A.JSON")
    (tmp_path / "a.CROP.json").write_text("{}")
    found, others = find_labelme(tmp_path, [], Inspected())
    assert ([path.name for path in found], others) == (["A.JSON"], [])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gbk"])
def test_labels_of_any_encoding_are_read(
    tmp_path: Path, write_labelme: Write, square: dict[str, Any], encoding: str
) -> None:
    path = write_labelme(tmp_path, "a", [square | {"label": "细胞核"}])
    text = json.dumps(json.loads(path.read_text()), ensure_ascii=False).replace("\n", "\r\n")
    path.write_bytes(text.encode(encoding))
    file = read_well(path)
    assert file.annotation.shapes[0].label == "细胞核"
    assert file.encoding == {"utf-16": "utf-16", "gbk": "gb18030"}.get(encoding, encoding)


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "quadrilateral", "polygon"])
def test_shapes_of_x_anylabeling_are_read(
    tmp_path: Path, write_labelme: Write, square: dict[str, Any], classes: ClassList, kind: str
) -> None:
    more = {
        "shape_type": kind,
        "score": None,
        "difficult": False,
        "attributes": {},
        "kie_linking": [],
        "direction": 0.3,
    }
    file = read_well(write_labelme(tmp_path, "a", [square | more], version="2.4.3"))
    assert paint(file.annotation, classes).tolist() == [[0] * 6, [0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0] * 6]


@pytest.mark.parametrize(
    "change",
    [
        {"shape_type": "Polygon"},
        {"shape_type": "RECTANGLE", "points": [[1, 1], [3, 3]]},
        {"shape_type": "rectangle", "points": [[1, 1], [3, 1], [3, 3], [1, 3], [1, 1]]},
        {"shape_type": "Rotation", "points": [[1, 1], [3, 1], [3, 3], [1, 3], [1, 1]]},
        {"group_id": 4.0},
    ],
)
def test_shapes_of_other_writers_are_read(
    tmp_path: Path, write_labelme: Write, square: dict[str, Any], classes: ClassList, change: dict[str, Any]
) -> None:
    file = read_well(write_labelme(tmp_path, "a", [square | change]))
    assert paint(file.annotation, classes).tolist() == [[0] * 6, [0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0] * 6]
    assert file.annotation.shapes[0].group_id in (None, 4)


@pytest.mark.parametrize("form", ["{}", "data:image/png;base64,{}", "lines"])
def test_base64_is_read_in_lines_and_as_a_data_url(tmp_path: Path, write_labelme: Write, form: str) -> None:
    def written(pixels: Any) -> str:
        data = png(pixels)
        return base64.encodebytes(data).decode() if form == "lines" else form.format(base64.b64encode(data).decode())

    mask = {"label": "cell", "shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": written([[1, 1], [0, 1]])}
    file = read_well(write_labelme(tmp_path, "a", [mask], imageData=written(np.full((4, 6, 3), 7))))
    assert np.all(file.picture == 7)
    assert file.annotation.shapes[0].mask is not None
    assert file.annotation.shapes[0].mask.tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize(
    "form",
    ["data:image/png;charset=utf-8;base64,{}", "DATA:image/PNG;BASE64,{}", " \n data:;base64, {}", "b'{}'", 'b"{}"'],
)
@pytest.mark.parametrize("alphabet", ["usual", "of URLs", "without padding"])
def test_base64_is_read_as_other_programs_write_it(
    tmp_path: Path, write_labelme: Write, form: str, alphabet: str
) -> None:
    data = png([[1, 1], [0, 1]]) + b"\xfb\xef\xbe"  # what follows the picture is ignored, and needs both odd letters
    text = (base64.urlsafe_b64encode if alphabet == "of URLs" else base64.b64encode)(data).decode()
    text = text.rstrip("=") if alphabet == "without padding" else text
    mask = {"label": "cell", "shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": form.format(text)}
    shape = read_well(write_labelme(tmp_path, "a", [mask])).annotation.shapes[0]
    assert shape.mask is not None
    assert shape.mask.tolist() == [[True, True], [False, True]]


def _palette(colours: list[int], ids: list[list[int]]) -> Image.Image:
    image = Image.fromarray(np.array(ids, np.uint8))
    image.putpalette(colours)
    return image


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.array([[1, 0]], np.uint16) * 256),
        Image.fromarray(np.array([[True, False]])),
        Image.fromarray(np.array([[[0, 0, 1], [0, 0, 0]]], np.uint8)),
        Image.fromarray(np.array([[[255, 255], [255, 0]]], np.uint8), "LA"),
        Image.fromarray(np.array([[[9, 9, 9, 1], [255, 255, 255, 0]]], np.uint8)),
        Image.fromarray(np.array([[[0, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)),
        Image.fromarray(np.array([[[255, 0, 0, 255], [0, 0, 0, 255]]], np.uint8)),
        _palette([0, 0, 0, 0, 0, 1], [[1, 0]]),
        _palette([255, 255, 255, 0, 0, 0], [[0, 1]]),
        _palette([0, 0, 0, 0, 0, 0], [[1, 0]]),
        _palette([240, 240, 240, 200, 0, 0], [[1, 0]]),
        _palette([0, 0, 0], [[3, 0]]),
    ],
    ids=["16-bit", "1-bit", "blue", "LA", "white", "black", "red", "P", "reversed", "all black", "all bright", "short"],
)
def test_the_marked_pixels_of_a_mask_are_found_however_it_is_stored(
    tmp_path: Path, write_labelme: Write, image: Image.Image
) -> None:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    text = base64.b64encode(buffer.getvalue()).decode()
    mask = {"label": "cell", "shape_type": "mask", "points": [[0, 0], [1, 0]], "mask": text}
    shape = read_well(write_labelme(tmp_path, "a", [mask])).annotation.shapes[0]
    assert shape.mask is not None
    assert shape.mask.tolist() == [[True, False]]


@pytest.mark.parametrize("sides", [(-1, -1), (0, 0), (6, None), (None, 4), ("6", "4"), (6.0, 4.0), (-1, 4)])
def test_an_unknown_side_is_not_compared(tmp_path: Path, write_labelme: Write, sides: tuple[Any, Any]) -> None:
    path = write_labelme(tmp_path, "a", imageWidth=sides[0], imageHeight=sides[1])
    assert read_well(path).annotation.size == Size(6, 4)


@pytest.mark.parametrize("sides", [(7, None), (-1, 5), ("60", "4"), (-2, 4), ("", 4), (True, 4)])
def test_a_known_side_is_compared(tmp_path: Path, write_labelme: Write, sides: tuple[Any, Any]) -> None:
    (problem,) = problems_of(write_labelme(tmp_path, "a", imageWidth=sides[0], imageHeight=sides[1]))
    assert "a.json: the file says " in problem


def test_the_corners_of_an_upright_rectangle_may_come_in_any_order(
    tmp_path: Path, write_labelme: Write, square: dict[str, Any], classes: ClassList
) -> None:
    change = {"shape_type": "rectangle", "points": [[1, 1], [3, 3], [3, 1], [1, 3]]}
    file = read_well(write_labelme(tmp_path, "a", [square | change]))
    assert paint(file.annotation, classes).tolist() == [[0] * 6, [0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0] * 6]


def test_a_shape_that_only_x_anylabeling_has_is_refused_as_its_own(
    tmp_path: Path, write_labelme: Write, square: dict[str, Any]
) -> None:
    (problem,) = problems_of(write_labelme(tmp_path, "a", [square | {"shape_type": "cuboid", "score": None}]))
    assert problem.startswith("a.json, shape 1: shape_type 'cuboid' of X-AnyLabeling is not supported. Convert it to a")


def test_empty_image_data_is_none(tmp_path: Path, write_labelme: Write) -> None:
    assert np.all(read_well(write_labelme(tmp_path, "a", grey=9, imageData="")).picture == 9)


@pytest.mark.parametrize("written", ["", ".", None, 7, "a\0.png"])
def test_without_an_image_path_the_picture_of_the_same_name_is_read(
    tmp_path: Path, write_labelme: Write, written: object
) -> None:
    file = read_well(write_labelme(tmp_path, "a", imagePath=written, grey=9))
    assert (np.unique(file.picture).tolist(), file.stem) == ([9], "a")


@pytest.mark.parametrize(
    ("points", "columns"),
    [
        ([[1, 1], [3, 2]], {1, 2, 3}),
        ([[1.4, 1.4], [3.4, 2.4]], {1, 2, 3}),
        ([[0.999996, 1], [3.000014, 2]], {1, 2, 3}),
        ([[-1.5, 1], [0.5, 2]], {0}),
        ([[4, 1], [6, 2]], {4, 5}),
        ([[1, 1], [2, 2]], {1, 2, 3}),
        ([[1, 1], [5.5, 3.5]], {1, 2, 3}),
    ],
)
def test_a_mask_that_was_moved_keeps_its_pixels(
    tmp_path: Path, write_labelme: Write, classes: ClassList, points: list[list[float]], columns: set[int]
) -> None:
    mask = {"label": "cell", "shape_type": "mask", "points": points, "mask": base64_png([[0, 0, 0], [1, 1, 1]])}
    label_map = paint(read_well(write_labelme(tmp_path, "a", [mask])).annotation, classes)
    assert {int(x) for x in np.flatnonzero((label_map == 1).any(axis=0))} == columns
    assert np.flatnonzero((label_map == 1).any(axis=1)).tolist() == [2]


@pytest.mark.parametrize(
    ("points", "first"),
    [([[4, 2], [2, 1]], (2, 1)), ([[5, 1], [2, 3]], (2, 1)), ([[2, 1], [1, 0]], (2, 1))],
)
def test_a_mask_begins_at_the_upper_left_corner_of_its_box(
    tmp_path: Path, write_labelme: Write, points: list[list[float]], first: tuple[float, float]
) -> None:
    """Points that are not the box of the mask, such as its place and something else, are left in their order."""
    mask = {"label": "cell", "shape_type": "mask", "points": points, "mask": base64_png([[0, 1, 0], [1, 1, 1]])}
    (shape,) = read_well(write_labelme(tmp_path, "a", [mask])).annotation.shapes
    assert shape.points[0] == first


def test_a_key_with_two_values_is_refused(tmp_path: Path, write_labelme: Write, square: dict[str, Any]) -> None:
    """The shapes of the first list were lost without a word."""
    path = write_labelme(tmp_path, "a", [square])
    path.write_text(path.read_text().replace('{"', '{"shapes": [], "', 1))
    (problem,) = problems_of(path)
    assert problem == (
        "a.json: is cut off or damaged (the key 'shapes' is there twice with different values). Save it again in "
        "labelme."
    )


@pytest.mark.parametrize(
    ("points", "corner"),
    [([[2, 1], [4, 2]], (0, 0)), ([[2, 1], [5, 3]], (0, 0)), ([[0, 0], [5, 3]], (0, 0)), ([[1, 2], [6, 5]], (1, 2))],
)
def test_a_mask_of_the_whole_image_lies_at_its_corner_if_the_points_are_its_box(
    tmp_path: Path, write_labelme: Write, classes: ClassList, points: list[list[float]], corner: tuple[int, int]
) -> None:
    """labelme crops masks to their box; one that was not cropped was placed at the box and so shifted."""
    whole = np.zeros((4, 6), np.uint8)
    whole[1:3, 2:5] = 255
    shape = {"label": "cell", "shape_type": "mask", "points": points, "mask": base64_png(whole)}
    found = paint(read_well(write_labelme(tmp_path, "a", [shape])).annotation, classes)
    expected = np.zeros((4, 6), np.uint8)
    x, y = corner
    expected[y + 1 : y + 3, x + 2 : x + 5] = 1
    assert found.tolist() == expected.tolist()


def test_masks_that_claim_to_be_huge_are_refused_unread(tmp_path: Path, write_labelme: Write) -> None:
    for side in (2**15, 2**18):
        data = bytearray(png([[1]]))
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        mask = {"label": "cell", "shape_type": "mask", "points": [[0, 0], [1, 1]]}
        path = write_labelme(tmp_path, "a", [mask | {"mask": base64.b64encode(data).decode()}])
        (problem,) = problems_of(path)
        assert problem.startswith("a.json, shape 1: ")
        assert "claims 32768x32768 px" in problem or "exceeds limit" in problem


@pytest.mark.parametrize("written", ["../secret.png", "..\\secret.png", "x/../../secret.png"])
def test_a_path_that_leads_out_is_refused(
    tmp_path: Path, write_labelme: Write, write_picture: Write, written: str
) -> None:
    write_picture(tmp_path / "secret.png")
    (problem,) = problems_of(write_labelme(tmp_path / "in", "a", imagePath=written))
    assert f"a.json: imagePath '{written}' points outside {tmp_path / 'in'}. Name a folder that holds both" in problem


@pytest.mark.parametrize("written", ["../scans/p.png", "..\\scans\\p.png", "x/../../p.png"])
def test_of_a_path_that_leads_out_the_name_is_looked_for_beside_the_file(
    tmp_path: Path, write_labelme: Write, write_picture: Write, written: str
) -> None:
    path = write_labelme(tmp_path / "in", "a", imagePath=written)
    write_picture(tmp_path / "in" / "p.png", grey=5)
    assert np.all(read_well(path).picture == 5)


@pytest.mark.posix
def test_a_link_that_leads_out_is_refused(tmp_path: Path, write_labelme: Write, write_picture: Write) -> None:
    write_picture(tmp_path / "secret.png")
    path = write_labelme(tmp_path / "in", "a", imagePath="link.png")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "secret.png")
    assert "points outside" in problems_of(path)[0]


@pytest.mark.parametrize("written", ["missing.png", "x" * 300 + ".png"])
def test_a_missing_picture_is_named(tmp_path: Path, write_labelme: Write, written: str) -> None:
    path = write_labelme(tmp_path, "a", imagePath=written)
    path.with_suffix(".png").unlink()
    (problem,) = problems_of(path)
    assert f"a.json: the image '{written}' does not exist" in problem


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_of_few_pictures_beside_a_missing_one_all_are_named(
    tmp_path: Path, write_labelme: Write, write_picture: Write, count: int
) -> None:
    path = write_labelme(tmp_path, "a", imagePath="old.png")
    path.with_suffix(".png").unlink()
    for number in range(count):
        write_picture(tmp_path / f"new {number}.png")
    (problem,) = problems_of(path)
    named = {1: "new 0.png", 3: "new 0.png or new 1.png or new 2.png"}.get(count)
    assert problem == "a.json: the image 'old.png' does not exist. " + (
        f"If it is {named}, write that as imagePath."
        if named
        else "Put it there, or save the file with its image data."
    )


@pytest.mark.parametrize("written", [None, 7, "", ".", "a\0.png"])
def test_an_unusable_image_path_is_refused(
    tmp_path: Path, write_labelme: Write, write_picture: Write, written: object
) -> None:
    path = write_labelme(tmp_path, "a", imagePath=written)
    write_picture(tmp_path / "a.bmp")
    (problem,) = problems_of(path)
    assert f"'imagePath' is {written!r} and there is a.bmp and a.png beside it. Save it again" in problem
    for picture in (tmp_path / "a.bmp", tmp_path / "a.png"):
        picture.unlink()
    (problem,) = problems_of(path)
    assert f"'imagePath' is {written!r} and there is no 'imageData'" in problem


def test_damaged_image_data_is_refused(tmp_path: Path, write_labelme: Write) -> None:
    assert "'imageData' is not base64" in problems_of(write_labelme(tmp_path, "a", imageData="&&&"))[0]
    assert "'imageData' is not base64" in problems_of(write_labelme(tmp_path, "a", imageData=5))[0]
    half = base64.b64encode(png(np.zeros((4, 6, 3)))[:40]).decode()
    assert "a.json, imageData" in problems_of(write_labelme(tmp_path, "a", imageData=half))[0]


def test_a_damaged_picture_is_named(tmp_path: Path, write_labelme: Write) -> None:
    path = write_labelme(tmp_path, "a")
    (tmp_path / "a.png").write_text("no image")
    assert "a.json, image a.png" in problems_of(path)[0]


def test_another_size_is_refused(tmp_path: Path, write_labelme: Write) -> None:
    (problem,) = problems_of(write_labelme(tmp_path, "a", imageWidth=12, imageHeight=8))
    assert problem.startswith("a.json: the file says 12x8 pixels, but the image has 6x4. Restore the image")
    (turned,) = problems_of(write_labelme(tmp_path, "a", imageWidth=4, imageHeight=6))
    assert "It was rotated after annotation." in turned
    assert "says []x4" in problems_of(write_labelme(tmp_path, "a", imageWidth=[]))[0]


def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path, write_labelme: Write, square: dict[str, Any]) -> None:
    path = write_labelme(tmp_path, "a", [square], imagePath="a.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    stored = np.zeros((6, 4, 3), np.uint8)
    stored[4:] = 200
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=100)
    shown = np.zeros((4, 6, 3))
    shown[:, :2] = 200  # turned to the right, what was below is on the left
    np.testing.assert_allclose(read_well(path).picture, shown, atol=4)


@pytest.mark.parametrize("turn", [3, 6])
@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("states", ["as stored", "upright", "nothing"])
def test_a_turned_picture_is_shown_as_it_was_annotated(
    tmp_path: Path, write_labelme: Write, turn: int, embedded: bool, states: str
) -> None:
    """labelme turns files upright, which old versions did not, and shows embedded data as stored."""
    stored = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    exif, buffer = Image.Exif(), BytesIO()
    exif[0x0112] = turn
    Image.fromarray(stored).save(buffer, "PNG", exif=exif)
    upright = turned(stored, turn)
    seen = {"as stored": stored, "upright": upright}.get(states)
    sides = {"imageHeight": seen.shape[0], "imageWidth": seen.shape[1]} if seen is not None else {}
    path = write_labelme(
        tmp_path,
        "a",
        imageData=base64.b64encode(buffer.getvalue()).decode() if embedded else None,
        **({"imageHeight": None, "imageWidth": None} | sides),
    )
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    if turn == 3 or seen is None:  # the size does not tell
        seen = stored if embedded else upright
    np.testing.assert_array_equal(read_well(path).picture, seen)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_every_kind_of_picture_becomes_rgb(tmp_path: Path, write_labelme: Write, mode: str) -> None:
    path = write_labelme(tmp_path, "a")
    grey = np.full((4, 6), 100, np.uint8)
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    image.save(tmp_path / "a.png")
    assert np.all(read_well(path).picture == 100)


def test_json_cut_in_half_is_refused(tmp_path: Path, write_labelme: Write, square: dict[str, Any]) -> None:
    path = write_labelme(tmp_path, "a", [square])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (problem,) = problems_of(path)
    assert problem.startswith("a.json: is cut off or damaged (")
    assert problem.endswith("Save it again in labelme.")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"shapes": "\xff"}')
    (problem,) = problems_of(tmp_path / "a.json")
    assert problem.startswith("a.json: is not UTF-8 text (")
    assert problem.endswith("Save it again in labelme. What is in another encoding can be converted with iconv.")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "a.json: cannot be read (No such file" in problems_of(tmp_path / "a.json")[0]


def test_json_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    assert "a.json: holds a list, not a labelme object" in problems_of(tmp_path / "a.json")[0]


def test_shapes_must_be_a_list(tmp_path: Path, write_labelme: Write) -> None:
    path = write_labelme(tmp_path, "a")
    path.write_text('{"imagePath": "a.png"}')
    assert problems_of(path) == ["a.json: 'shapes' is missing, but must be a list. Save it again in labelme."]
    path.write_text('{"imagePath": "a.png", "shapes": "none"}')
    assert problems_of(path) == ["a.json: 'shapes' is text, but must be a list. Save it again in labelme."]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None}, "'label' is None, but must be a class name"),
        ({"label": " "}, "'label' is ' ', but must be a class name"),
        ({"group_id": "one"}, "'group_id' is 'one', but must be a whole number"),
        ({"shape_type": "star"}, "shape_type 'star' is unknown. Draw it again as one of polygon"),
        ({"points": None}, "'points' must be a list of [x, y], found None"),
        ({"points": [[1, 2, 3]] * 3}, "'points' must be a list of [x, y], found [[1, 2, 3]"),
        ({"points": [[1, "2"]] * 3}, "coordinate '2' is not a number of pixels"),
        ({"points": [[1, float("nan")]] * 3}, "coordinate nan is not a number of pixels"),
        ({"points": [[1, float("inf")]] * 3}, "coordinate inf is not a number of pixels"),
        ({"points": [[1, 10**400]] * 3}, "is not a number of pixels"),
        ({"points": [[1, True]] * 3}, "coordinate True is not a number of pixels"),
        ({"points": [[1, 1]] * 2}, "a polygon has at least 3 points, found 2"),
        ({"shape_type": "circle"}, "a circle has 2 points, found 4"),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]]}, "'mask' is null, but must be a PNG in base64"),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "&&"}, "'mask' is not a PNG in base64"),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "aGk="}, "'mask' is not a PNG. Draw"),
        ({"shape_type": "mask", "points": [[0, 0], [0, 0]], "mask": base64_png([[0]])}, "the mask is empty"),
    ],
)
def test_a_wrong_shape_is_reported_with_file_and_number(
    tmp_path: Path, write_labelme: Write, square: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    (problem,) = problems_of(write_labelme(tmp_path, "a", [square, square | change]))
    assert problem.startswith("a.json, shape 2: ")
    assert message in problem


def test_all_problems_of_a_file_are_reported(tmp_path: Path, write_labelme: Write) -> None:
    problems = problems_of(write_labelme(tmp_path, "a", [5, {"label": ""}], imagePath="missing.jpg"))
    assert len(problems) == 3
    assert "shape 1: is a number, but must be an object" in problems[0]


def test_the_origin_stands_in_the_file(tmp_path: Path, write_labelme: Write) -> None:
    path = write_labelme(tmp_path, "a", cytoseg={"slide": "s1", "region": [8, 16, 6, 4]})
    origin = read_well(path).origin
    assert origin is not None
    assert (origin.slide, origin.region) == ("s1", Region(8, 16, 6, 4))


def test_the_origin_stands_beside_the_picture(tmp_path: Path, write_labelme: Write, write_picture: Write) -> None:
    write_picture(tmp_path / "images" / "p.png")
    (tmp_path / "images" / "p.crop.json").write_text('{"slide": "s2", "region": [0, 0, 6, 4]}')
    origin = read_well(write_labelme(tmp_path / "labelme", "a", imagePath="../images/p.png"), tmp_path).origin
    assert origin is not None
    assert origin.slide == "s2"


def test_a_wrong_origin_is_refused(tmp_path: Path, write_labelme: Write) -> None:
    (problem,) = problems_of(write_labelme(tmp_path, "a", cytoseg={"slide": 3}))
    assert "a.json, key 'cytoseg': 'slide' is 3" in problem


def test_labelme_files_are_distinguished_from_other_json(tmp_path: Path, write_labelme: Write) -> None:
    first, second = write_labelme(tmp_path, "b"), write_labelme(tmp_path / "deep", "a")
    write_labelme(tmp_path / ".hidden", "c")
    (tmp_path / "split.json").write_text("{}")
    (tmp_path / "b.crop.json").write_text('{"slide": "s", "region": [0, 0, 1, 1]}')
    (tmp_path / "broken.json").write_text('{"shapes": [')
    problems: list[str] = []
    assert find_labelme(tmp_path, problems, Inspected()) == ([first, second], [tmp_path / "split.json"])
    assert len(problems) == 1
    assert problems[0].startswith("broken.json: is cut off")


@pytest.mark.data
def test_real_files_are_read(cytoseg_data: Path) -> None:
    root = cytoseg_data / "lbc" / "train"
    file = read_well(root / "labelme" / "009_0_62.json", root)
    assert file.picture.shape == (256, 256, 3)
    assert {shape.label for shape in file.annotation.shapes} <= {"background", "cytoplasm", "nucleus"}
    assert json.loads((root / "labelme" / "009_0_62.json").read_text())["shapes"]
