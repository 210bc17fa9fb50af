from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Region
from cytoseg.slides.image import ImageSlide, read_picture
from cytoseg.slides.open import open_slide
from cytoseg.slides.planes import largest_scene, middle_plane
from cytoseg.slides.tiff import TiffSlide

Write = Callable[..., Path]
Pixels = NDArray[Any]


def stack(planes: int, side: int = 40) -> NDArray[np.uint8]:
    return np.random.default_rng(planes).integers(0, 256, (planes, side, side, 3), dtype=np.uint8)


def read(path: Path, level: int = 0) -> tuple[NDArray[np.uint8], str]:
    with open_slide(path) as slide:
        size = slide.levels[0].size
        return slide.read_region(Region(0, 0, size.width, size.height), level), slide.note


def write_ome(path: Path, *images: Pixels, axes: str = "ZYXS", **options: Any) -> Path:
    """Write OME-TIFF with one image for each array, each with a half level in SubIFDs."""
    with tifffile.TiffWriter(path, ome=True) as tif:
        for image in images:
            rgb = {"tile": (16, 16), "photometric": "rgb"} | options
            tif.write(image, subifds=1, metadata={"axes": axes, "PhysicalSizeX": 0.25}, **rgb)
            tif.write(image[..., ::2, ::2, :], subfiletype=1, metadata=None, **rgb)
    return path


def test_the_middle_plane_and_the_largest_scene() -> None:
    assert middle_plane(1) == (0, "")
    assert middle_plane(4) == (2, "plane 3 of 4 (the middle one)")
    assert middle_plane(7) == (3, "plane 4 of 7 (the middle one)")
    assert largest_scene([9]) == (0, "")
    assert largest_scene([4, 9, 1]) == (1, "scene 2 of 3 (the largest)")
    assert largest_scene([4, 9, 9]) == (1, "scene 2 of 3 (the first of the largest)")


def test_one_picture_needs_no_note(write_tiff: Write, speckles: Pixels) -> None:
    assert read(write_tiff(speckles, name="a.ome.tif", ome=True)) == (pytest.approx(speckles), "")
    assert read(write_tiff(speckles, name="strips.tif", tile=None))[1] == ""


def test_of_a_pyramid_written_upwards_the_largest_page_is_read(tmp_path: Path) -> None:
    pixels = stack(1)[0]
    with tifffile.TiffWriter(tmp_path / "up.tif") as tif:
        for step in (4, 2, 1):
            tif.write(pixels[::step, ::step], photometric="rgb", tile=None if step == 4 else (16, 16))
    for level, step in enumerate((1, 2)):
        found, note = read(tmp_path / "up.tif", level)
        assert_array_equal(found, pixels[::step, ::step])
        assert note == "page 3 of 3 (the largest)"
    with pytest.raises(SlideError, match="contains several images, not only page 3 of 3"):
        read_picture(tmp_path / "up.tif", name="up.tif")


def test_of_an_ome_stack_the_middle_plane_is_read_on_all_its_levels(tmp_path: Path) -> None:
    pixels = stack(7)
    path = write_ome(tmp_path / "z.ome.tif", pixels)
    for level, expected in enumerate([pixels[3], pixels[3, ::2, ::2]]):
        found, note = read(path, level)
        assert_array_equal(found, expected)
        assert note == "plane 4 of 7 (the middle one)"
    with TiffSlide(path) as slide, tifffile.TiffFile(path) as tif:
        assert slide.mpp == 0.25
        assert len(slide.levels) == len(tif.series[0].levels) == 2
        assert_array_equal(tif.series[0].levels[1].asarray()[3], pixels[3, ::2, ::2])


def test_planes_may_lie_in_any_order(write_tiff: Write) -> None:
    pixels = stack(3)
    xml = (
        '<?xml version="1.0"?><OME><Image><Pixels DimensionOrder="XYCZT" SizeX="40" SizeY="40" SizeZ="3" SizeC="3" '
        'SizeT="1" Type="uint8"><Channel SamplesPerPixel="3"/><TiffData IFD="2" FirstZ="0"/>'
        '<TiffData IFD="0" FirstZ="1"/><TiffData IFD="1" FirstZ="2" PlaneCount="1"/></Pixels></Image></OME>'
    )
    path = write_tiff(pixels, photometric="rgb", description=xml, metadata=None)
    found, _ = read(path)
    assert_array_equal(found, pixels[0])
    assert_array_equal(found, tifffile.imread(path)[1])
    cut = write_tiff(pixels, photometric="rgb", description=xml.replace('FirstZ="1"', 'FirstZ="7"'), metadata=None)
    with pytest.raises(SlideError, match=r"slide.tif: lacks plane 2 of its z-stack. Export it again"):
        open_slide(cut)
    apart = xml.replace('FirstZ="0"/>', 'FirstZ="0"><UUID>a</UUID></TiffData>')
    apart = apart.replace('FirstZ="1"/>', 'FirstZ="1"><UUID>b</UUID></TiffData>')
    with pytest.raises(SlideError, match=r"slide.tif: its planes are spread over 2 files. Export them into one"):
        open_slide(write_tiff(pixels, photometric="rgb", description=apart, metadata=None))
    plain = xml[: xml.index("<TiffData")] + "</Pixels></Image></OME>"
    assert_array_equal(read(write_tiff(pixels, photometric="rgb", description=plain, metadata=None))[0], pixels[1])


@pytest.mark.parametrize("tile", [(16, 16), None])
def test_of_imagejs_slices_the_middle_one_is_read(write_tiff: Write, tile: tuple[int, int] | None) -> None:
    pixels = stack(5)
    found, note = read(write_tiff(pixels, tile=tile, imagej=True, photometric="rgb", metadata={"axes": "ZYXS"}))
    assert_array_equal(found, pixels[2])
    assert note == "plane 3 of 5 (the middle one)"


def test_a_small_ome_stack_without_tiles_is_read_too(tmp_path: Path) -> None:
    pixels = stack(3)
    path = write_ome(tmp_path / "z.ome.tif", pixels, tile=None)
    with open_slide(path) as slide:
        assert type(slide) is ImageSlide
    found, note = read(path)
    assert_array_equal(found, pixels[1])
    assert note == "plane 2 of 3 (the middle one)"


def test_a_picture_to_be_marked_is_no_stack(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "z.ome.tif", stack(3), tile=None)
    with pytest.raises(SlideError, match=r"cell 7: contains several images, not only plane 2 of 3 .*separate file"):
        read_picture(path, name="cell 7")


def test_of_several_scenes_the_largest_is_read(tmp_path: Path) -> None:
    small, large = stack(1, side=20)[0], stack(1, side=48)[0]
    path = write_ome(tmp_path / "two.ome.tif", small, large, axes="YXS")
    found, note = read(path)
    assert_array_equal(found, large)
    assert note == "scene 2 of 2 (the largest)"
    with open_slide(path) as slide:
        # The other scene is no level of this one, though it looks like one.
        assert [level.size.width for level in slide.levels] == [48, 24]
    again = write_ome(tmp_path / "same.ome.tif", large, stack(1, side=48)[0] // 2, axes="YXS")
    assert_array_equal(read(again)[0], large)
    assert read(again)[1] == "scene 1 of 2 (the first of the largest)"


def test_of_several_stacks_the_middle_plane_of_the_largest(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "two.ome.tif", stack(2, side=20), stack(3, side=48))
    found, note = read(path)
    assert_array_equal(found, stack(3, side=48)[1])
    assert note == "scene 2 of 2 (the largest), plane 2 of 3 (the middle one)"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"ome": True, "metadata": {"axes": "CYX"}}, "3 channels"),
        ({"ome": True, "metadata": {"axes": "TYX"}}, "3 time points"),
        ({"imagej": True, "metadata": {"axes": "TYX"}}, "3 time points"),
        ({"imagej": True, "metadata": {"axes": "CYX"}}, "3 channels"),
        ({}, r"3 pages of one size \(z-planes, channels or time points\)"),
    ],
)
def test_other_stacks_are_refused_by_name(write_tiff: Write, options: dict[str, Any], found: str) -> None:
    path = write_tiff(stack(3)[..., 0], photometric="minisblack", **options)
    with pytest.raises(SlideError, match=rf"slide.tif: contains {found}; cytoseg reads .* Export one of them"):
        open_slide(path)


def test_a_stack_of_stacks_is_refused(write_tiff: Write) -> None:
    pixels = stack(6)[..., 0].reshape(2, 3, 40, 40)
    path = write_tiff(pixels, photometric="minisblack", ome=True, metadata={"axes": "TZYX"})
    with pytest.raises(SlideError, match=r"contains 6 pages of one size"):
        open_slide(path)


def test_pages_that_the_ome_does_not_tell_of_are_refused(write_tiff: Write) -> None:
    xml = '<?xml version="1.0"?><OME><Image><Pixels SizeX="40" SizeY="40" SizeZ="1" SizeC="3" SizeT="1"/></Image></OME>'
    path = write_tiff(stack(3), photometric="rgb", description=xml, metadata=None)
    with pytest.raises(SlideError, match=r"contains 3 pages of one size"):
        open_slide(path)


def test_imagej_planes_without_headers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "virtual.tif"
    tifffile.imwrite(path, stack(4), imagej=True, photometric="rgb", metadata={"axes": "ZYXS"}, truncate=True)
    with pytest.raises(SlideError, match=r"contains 4 z-planes, of which only 1 were found"):
        open_slide(path)


@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_an_image_below_its_thumbnail_is_not_taken_for_it(tmp_path: Path, tile: tuple[int, int] | None) -> None:
    """Raw files of cameras have the thumbnail first, and the image in a SubIFD."""
    path, pixels = tmp_path / "a.tif", stack(1, 80)[0]
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels[::4, ::4], photometric="rgb", tile=tile, subifds=1, subfiletype=1, metadata=None)
        tif.write(pixels, photometric="rgb", tile=tile, metadata=None)
    with pytest.raises(
        SlideError, match=r"^a\.tif: its first image of 20 x 20 px is a thumbnail of one of 80 x 80 px below it, as in"
    ):
        open_slide(path)
