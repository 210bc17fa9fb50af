import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Region
from cytoseg.locks import locked
from cytoseg.slides import convert
from cytoseg.slides.convert import convert_slide
from cytoseg.slides.open import open_slide
from cytoseg.writing import replaced

Write = Callable[..., Path]
Pixels = NDArray[Any]


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """(1100, 700, 3): more than two bands of rows."""
    return np.random.default_rng(0).integers(0, 256, (1100, 700, 3), dtype=np.uint8)


@pytest.mark.parametrize("columns", [2048, 300])
def test_ome_zarr_holds_the_same_pixels(
    monkeypatch: pytest.MonkeyPatch, write_tiff: Write, tmp_path: Path, picture: Pixels, columns: int
) -> None:
    zarr = pytest.importorskip("zarr")
    monkeypatch.setattr(convert, "_COLUMNS", columns)
    source, target, rows = write_tiff(picture, resolution=(40000, 40000), resolutionunit=3), tmp_path / "a.zarr", []
    with open_slide(source) as slide:
        convert_slide(slide, target, on_row=rows.append)
    assert rows == [512, 1024, 1100]
    assert_array_equal(zarr.open_array(target / "0", mode="r")[:].transpose(1, 2, 0), picture)
    with open_slide(target) as slide:
        assert [level.size.height for level in slide.levels] == [1100, 550, 275]
        assert slide.mpp == pytest.approx(0.25)


def test_ome_tiff_holds_nearly_the_same_pixels(write_tiff: Write, tmp_path: Path) -> None:
    y, x = np.mgrid[:600, :700]
    smooth = np.stack([x // 3, y // 3, (x + y) // 6], axis=-1).astype(np.uint8)
    with open_slide(write_tiff(smooth, resolution=(40000, 40000), resolutionunit=3)) as slide:
        convert_slide(slide, tmp_path / "b.ome.tif", on_row=lambda _: None)
    found = tifffile.imread(tmp_path / "b.ome.tif").astype(int)
    assert found.shape == smooth.shape
    assert abs(found - smooth).mean() < 1.5
    with open_slide(tmp_path / "b.ome.tif") as slide:
        assert [level.size.width for level in slide.levels] == [700, 350]
        assert slide.mpp == pytest.approx(0.25)


def test_of_a_stack_the_plane_that_is_read(write_tiff: Write, tmp_path: Path, speckles: Pixels) -> None:
    pytest.importorskip("zarr")
    stack = np.stack([speckles // 2, speckles, speckles // 3])
    with open_slide(
        write_tiff(stack, name="z.ome.tif", ome=True, photometric="rgb", metadata={"axes": "ZYXS"})
    ) as slide:
        assert slide.note == "plane 2 of 3 (the middle one)"
        convert_slide(slide, tmp_path / "z.zarr", on_row=lambda _: None)
    with open_slide(tmp_path / "z.zarr") as slide:
        assert_array_equal(slide.read_region(Region(0, 0, 53, 37)), speckles)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "zarr"])
def test_other_endings_are_refused(write_tiff: Write, tmp_path: Path, speckles: Pixels, name: str) -> None:
    with (
        open_slide(write_tiff(speckles)) as slide,
        pytest.raises(SlideError, match=rf"{name}: is neither .ome.tif nor .zarr"),
    ):
        convert_slide(slide, tmp_path / name, on_row=lambda _: None)


@pytest.mark.parametrize("name", ["a.ome.tif", "a.zarr"])
def test_what_is_there_is_left_alone(write_tiff: Write, tmp_path: Path, speckles: Pixels, name: str) -> None:
    (tmp_path / name).write_text("old")
    with (
        open_slide(write_tiff(speckles)) as slide,
        pytest.raises(SlideError, match=rf"{name}: already exists. Choose another name, or remove it"),
    ):
        convert_slide(slide, tmp_path / name, on_row=lambda _: None)
    assert (tmp_path / name).read_text() == "old"


@pytest.mark.parametrize("name", ["a.ome.tif", "a.zarr"])
def test_what_another_process_wrote_meanwhile_is_left_alone(
    write_tiff: Write, tmp_path: Path, speckles: Pixels, name: str
) -> None:
    if name == "a.zarr":
        pytest.importorskip("zarr")
    source = write_tiff(speckles)
    with open_slide(source) as slide, pytest.raises(SlideError, match=rf"{name}: already exists\."):
        convert_slide(slide, tmp_path / name, on_row=lambda _: (tmp_path / name).write_text("theirs"))
    assert (tmp_path / name).read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, name])


@pytest.mark.parametrize("name", ["a.ome.tif", "a.zarr"])
def test_of_two_conversions_to_one_file_the_second_is_refused(
    write_tiff: Write, tmp_path: Path, speckles: Pixels, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "a.zarr":
        pytest.importorskip("zarr")
        monkeypatch.setattr("cytoseg.slides.zarr.replaced", partial(replaced, wait_s=0))
    source = write_tiff(speckles)
    with (
        open_slide(source) as slide,
        locked(tmp_path / name, wait_s=0, error=SlideError),
        pytest.raises(SlideError, match=rf"{name}: .* \(process \d+ .*\) is writing it\. Wait until it ends"),
    ):
        convert_slide(slide, tmp_path / name, on_row=lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_a_slide_damaged_on_the_way_leaves_nothing(write_tiff: Write, tmp_path: Path, picture: Pixels) -> None:
    pytest.importorskip("zarr")
    source = write_tiff(picture, compression="zlib")
    with tifffile.TiffFile(source) as tif:
        offset = tif.pages[0].dataoffsets[-1]
    with source.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * 20)
    for name in ("a.zarr", "a.ome.tif"):
        with open_slide(source) as slide, pytest.raises(SlideError, match="is damaged"):
            convert_slide(slide, tmp_path / name, on_row=lambda _: None)
    assert list(tmp_path.iterdir()) == [source]


def test_without_zarr_it_is_said_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, write_tiff: Write, tmp_path: Path, speckles: Pixels
) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    monkeypatch.delitem(sys.modules, "cytoseg.slides.zarr", raising=False)
    with (
        open_slide(write_tiff(speckles)) as slide,
        pytest.raises(SlideError, match=r"not installed .*pip install 'cytoseg\[zarr\]'"),
    ):
        convert_slide(slide, tmp_path / "a.zarr", on_row=lambda _: None)
