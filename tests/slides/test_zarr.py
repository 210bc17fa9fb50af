import itertools
import json
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Level, Region, Size
from cytoseg.slides.open import open_slide
from cytoseg.slides.pyramid import halve

zarr = pytest.importorskip("zarr")

from cytoseg.slides.zarr import ZarrSlide, write_ome_zarr  # noqa: E402 - only where zarr is installed

Pixels = NDArray[Any]


def write(
    path: Path, levels: list[Pixels], axes: str, *, version: int = 2, unit: str | None = "micrometer", mpp: float = 0.25
) -> Path:
    """Write what other programs write, by zarr and json alone."""
    group = zarr.open_group(path, mode="w", zarr_format=version)
    datasets = []
    for number, level in enumerate(levels):
        array = group.create_array(
            str(number), shape=level.shape, chunks=tuple(min(16, n) for n in level.shape), dtype=level.dtype
        )
        array[...] = level
        scale = [mpp * 2**number if axis in "xy" else 1.0 for axis in axes]
        datasets.append({"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    named = [{"name": a, "type": "space"} | ({"unit": unit} if unit and a in "xy" else {}) for a in axes]
    found = {"multiscales": [{"version": "0.4", "axes": named, "datasets": datasets}]}
    group.attrs.update(found if version == 2 else {"ome": {"version": "0.5"} | found})
    return path


def change(path: Path, **values: Any) -> None:
    """Change what the first multiscale says."""
    text = json.loads((path / ".zattrs").read_text())
    text["multiscales"][0] |= values
    (path / ".zattrs").write_text(json.dumps(text))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("axes", ["cyx", "tczyx", "yxc", "zcyx", "xyc"])
def test_reads_what_zarr_has_written(tmp_path: Path, speckles: Pixels, axes: str, version: int) -> None:
    whole = np.full((41, 63, 3), 255, np.uint8)
    whole[2:39, 5:58] = speckles
    levels = []
    for pixels in (speckles, speckles[:36:2, :52:2]):
        kept = [axis for axis in axes if axis in "cyx"]
        level = pixels.transpose(["yxc".index(axis) for axis in kept])
        levels.append(level.reshape([1 if a in "tz" else level.shape[kept.index(a)] for a in axes]))
    path = write(tmp_path / "a.ome.zarr", levels, axes, version=version)
    with open_slide(path) as slide:
        assert type(slide) is ZarrSlide
        assert slide.levels == (Level(Size(53, 37), 1.0), Level(Size(26, 18), 2.0))
        assert (slide.mpp, slide.note) == (0.25, "")
        for region in (Region(-5, -2, 63, 41), Region(0, 0, 53, 37), Region(15, 15, 2, 2), Region(40, 30, 18, 9)):
            expected = whole[2 + region.y :, 5 + region.x :][: region.height, : region.width]
            assert_array_equal(slide.read_region(region), expected)
        assert_array_equal(slide.read_region(Region(20, 12, 8, 8), 1), speckles[12:20:2, 20:28:2])
        assert_array_equal(slide.read_region(Region(60, 0, 4, 4)), np.full((4, 4, 3), 255))


def test_of_a_stack_the_middle_plane_is_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 5, 20, 20), np.uint8)
    with open_slide(write(tmp_path / "a.zarr", [pixels, pixels[:, :, ::2, ::2, ::2]], "tczyx")) as slide:
        assert slide.note == "plane 3 of 5 (the middle one)"
        assert_array_equal(slide.read_region(Region(0, 0, 20, 20)), pixels[0, :, 2].transpose(1, 2, 0))
        assert_array_equal(slide.read_region(Region(0, 0, 20, 20), 1), pixels[0, :, 2, ::2, ::2].transpose(1, 2, 0))


def test_of_several_scenes_the_largest_is_read(tmp_path: Path, speckles: Pixels) -> None:
    root = tmp_path / "a.zarr"
    zarr.open_group(root, mode="w", zarr_format=2).attrs.update({"bioformats2raw.layout": 3})
    for number, pixels in enumerate([speckles[:9], speckles, speckles[:20]]):
        write(root / str(number), [pixels.transpose(2, 0, 1)], "cyx")
    zarr.open_group(root / "OME", mode="w", zarr_format=2)
    with open_slide(root) as slide:
        assert slide.note == "scene 2 of 3 (the largest)"
        assert_array_equal(slide.read_region(Region(0, 0, 53, 37)), speckles)


def test_chunks_that_are_not_there_have_the_fill_value(tmp_path: Path, speckles: Pixels) -> None:
    path = write(tmp_path / "a.zarr", [speckles.transpose(2, 0, 1)], "cyx")
    (path / "0" / "0.1.0").unlink()
    expected = speckles.copy()
    expected[16:32, :16] = 0
    with ZarrSlide(path) as slide:
        assert_array_equal(slide.read_region(Region(0, 0, 53, 37)), expected)


def test_only_the_chunks_touched_are_read(tmp_path: Path, speckles: Pixels) -> None:
    path = write(tmp_path / "a.zarr", [speckles.transpose(2, 0, 1)], "cyx")
    (path / "0" / "0.0.0").write_bytes(b"damaged")
    with ZarrSlide(path) as slide:
        assert_array_equal(slide.read_region(Region(16, 0, 37, 37)), speckles[:, 16:])
        with pytest.raises(SlideError, match=r"a.zarr: damaged at Region\(x=15.*Copy the folder again"):
            slide.read_region(Region(15, 15, 2, 2))


@pytest.mark.parametrize(
    ("unit", "mpp", "expected"),
    [("micrometer", 0.5, 0.5), ("nanometer", 250, 0.25), (None, 1.0, None), ("inch", 1.0, None), ("meter", 1.0, None)],
)
def test_mpp(tmp_path: Path, speckles: Pixels, unit: str | None, mpp: float, expected: float | None) -> None:
    with ZarrSlide(write(tmp_path / "a.zarr", [speckles], "yxc", unit=unit, mpp=mpp)) as slide:
        assert slide.mpp == (None if expected is None else pytest.approx(expected))


def test_mpp_may_be_scaled_for_all_levels_together(tmp_path: Path, speckles: Pixels) -> None:
    path = write(tmp_path / "a.zarr", [speckles], "yxc", mpp=1.0)
    change(path, coordinateTransformations=[{"type": "translation"}, {"type": "scale", "scale": [0.5, 0.5, 1]}])
    with ZarrSlide(path) as slide:
        assert slide.mpp == 0.5


@pytest.mark.posix
def test_pickles_as_its_path_and_is_read_after_a_fork(tmp_path: Path, speckles: Pixels) -> None:
    with ZarrSlide(write(tmp_path / "a.zarr", [speckles], "yxc")) as slide:
        assert len(pickle.dumps(slide)) < 1000
        with pickle.loads(pickle.dumps(slide)) as again:
            assert_array_equal(again.read_region(Region(0, 0, 53, 37)), speckles)
        if (child := os.fork()) == 0:
            os._exit(int(not np.array_equal(slide.read_region(Region(0, 0, 53, 37)), speckles)))
        assert os.waitpid(child, 0)[1] == 0


def test_threads_read_one_slide_at_once(tmp_path: Path, speckles: Pixels) -> None:
    regions = [Region(x, y, 9, 9) for x in range(0, 44, 11) for y in range(0, 28, 7)]
    with ZarrSlide(write(tmp_path / "a.zarr", [speckles], "yxc")) as slide, ThreadPoolExecutor(4) as pool:
        for region, found in zip(regions, pool.map(slide.read_region, regions), strict=True):
            assert_array_equal(found, speckles[region.y : region.y + 9, region.x : region.x + 9])


@pytest.mark.parametrize(
    ("shape", "dtype", "axes", "found"),
    [
        ((4, 9, 9), np.uint8, "cyx", "4 channels, not 3"),
        ((9, 9), np.uint8, "yx", "1 channels, not 3"),
        ((2, 3, 9, 9), np.uint8, "tcyx", "2 time points"),
        ((3, 9, 9), np.uint16, "cyx", "values of the type uint16"),
        ((3, 0, 9), np.uint8, "cyx", "no pixels"),
    ],
)
def test_what_is_no_rgb_picture_is_refused_by_name(
    tmp_path: Path, shape: tuple[int, ...], dtype: Any, axes: str, found: str
) -> None:
    with pytest.raises(SlideError, match=rf"a.zarr: holds {found}, which cytoseg cannot read. Export it as 8-bit"):
        ZarrSlide(write(tmp_path / "a.zarr", [np.zeros(shape, dtype)], axes))


def test_levels_of_another_shape_or_order_are_refused(tmp_path: Path, speckles: Pixels) -> None:
    path = write(tmp_path / "a.zarr", [speckles, speckles[:9, :9, 0]], "yxc")
    with pytest.raises(SlideError, match=r"holds 2 axes in a level where 3 are named"):
        ZarrSlide(path)
    with pytest.raises(SlideError, match=r"its levels are not ordered from fine to coarse. Export it again"):
        ZarrSlide(write(tmp_path / "b.zarr", [speckles[:9, :9], speckles], "yxc"))
    with ZarrSlide(write(tmp_path / "c.zarr", [speckles, speckles, speckles[::2, ::2]], "yxc")) as slide:
        assert [level.size.width for level in slide.levels] == [53, 27]
        assert_array_equal(slide.read_region(Region(0, 0, 10, 10), 1), speckles[:10:2, :10:2])


def test_a_level_that_is_damaged_or_missing(tmp_path: Path, speckles: Pixels) -> None:
    path = write(tmp_path / "a.zarr", [speckles, speckles[::2, ::2]], "yxc")
    (path / "1" / ".zarray").write_text('{"zarr_format": 2}')
    with pytest.raises(SlideError, match=r"a.zarr: a level cannot be opened \(.*Copy the folder again"):
        ZarrSlide(path)
    (path / "0" / ".zarray").unlink()
    with pytest.raises(SlideError, match=r"a.zarr: the OME-Zarr metadata is missing or damaged"):
        ZarrSlide(path)


def bands_of(pixels: Pixels, heights: tuple[int, ...]) -> Iterator[Pixels]:
    edges = np.cumsum((0, *heights))
    return (pixels[a:b] for a, b in itertools.pairwise(edges))


@pytest.mark.parametrize("heights", [(1201,), (1, 511, 600, 89), (513, 688)])
def test_a_written_pyramid_is_read_back_exactly(tmp_path: Path, heights: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1201, 530, 3), np.uint8)
    path = tmp_path / "deep" / "a.ome.zarr"
    write_ome_zarr(path, bands_of(pixels, heights), size=Size(530, 1201), mpp=0.25)
    half = halve(pixels, categorical=False)
    expected = [pixels, half, halve(half, categorical=False)]
    with open_slide(path) as slide:
        assert slide.levels == (Level(Size(530, 1201), 1.0), Level(Size(265, 601), 2.0), Level(Size(133, 301), 4.0))
        assert slide.mpp == 0.25
        for level, wanted in enumerate(expected):
            # As zarr alone gives it, and as the slide does.
            assert_array_equal(zarr.open_array(path / str(level), mode="r")[:].transpose(1, 2, 0), wanted)
        assert_array_equal(slide.read_region(Region(500, 1180, 40, 30))[:21, :30], pixels[1180:, 500:])
        assert_array_equal(slide.read_region(Region(0, 0, 520, 1200), 2), expected[2][:300, :130])


def test_what_is_written_is_ngff(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, [np.zeros((600, 20, 3), np.uint8)], size=Size(20, 600), mpp=0.25)
    (found,) = json.loads((path / ".zattrs").read_text())["multiscales"]
    assert found["version"] == "0.4"
    assert found["axes"] == [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    assert found["datasets"] == [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.25, 0.25]}]},
        {"path": "1", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]},
    ]
    array = json.loads((path / "0" / ".zarray").read_text())
    assert (array["chunks"], array["dimension_separator"], array["zarr_format"]) == ([3, 512, 512], "/", 2)
    channels = json.loads((path / ".zattrs").read_text())["omero"]["channels"]
    assert [channel["color"] for channel in channels] == ["FF0000", "00FF00", "0000FF"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32])
def test_ids_are_written_without_a_mean(tmp_path: Path, dtype: Any) -> None:
    ids = np.random.default_rng(0).integers(7, 10, (16, 520)).astype(dtype)
    write_ome_zarr(tmp_path / "i.zarr", [ids], size=Size(520, 16), mpp=None, categorical=True)
    assert_array_equal(zarr.open_array(tmp_path / "i.zarr" / "0", mode="r")[:], ids)
    coarser = zarr.open_array(tmp_path / "i.zarr" / "1", mode="r")
    assert coarser.dtype == dtype
    assert_array_equal(coarser[:], halve(ids, categorical=True))
    (found,) = json.loads((tmp_path / "i.zarr" / ".zattrs").read_text())["multiscales"]
    assert found["axes"] == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    assert found["datasets"][1]["coordinateTransformations"][0]["scale"] == [2.0, 2.0]


def test_an_interrupted_write_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Pixels]:
        yield np.zeros((600, 600, 3), np.uint8)
        raise KeyboardInterrupt

    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "old").touch()
    with pytest.raises(KeyboardInterrupt):
        write_ome_zarr(tmp_path / "a.zarr", interrupted(), size=Size(600, 900), mpp=None)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a.zarr", tmp_path / "a.zarr" / "old"]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(SlideError, match=r"a.zarr: cannot be written \(No space left on device\)"):
        write_ome_zarr(tmp_path / "a.zarr", [np.zeros((4, 4, 3), np.uint8)], size=Size(4, 4), mpp=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ([], "there are no bands"),
        ([np.zeros((4, 4, 4), np.uint8)], "a band is"),
        ([np.zeros((3, 4, 3), np.uint8)], "the bands have 3 rows together, but the slide has 4"),
    ],
)
def test_bands_that_do_not_fit(tmp_path: Path, bands: list[Pixels], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_ome_zarr(tmp_path / "a.zarr", bands, size=Size(4, 4), mpp=None)
    assert list(tmp_path.iterdir()) == []


def test_chunks_that_take_gigabytes_are_refused(tmp_path: Path, speckles: Pixels) -> None:
    path = write(tmp_path / "a.zarr", [speckles], "yxc")
    (found,) = path.glob("*/.zarray")
    described = json.loads(found.read_text()) | {"shape": [60000, 60000, 3], "chunks": [60000, 60000, 3]}
    found.write_text(json.dumps(described))
    with pytest.raises(SlideError, match=r"a.zarr: holds chunks of \(60000, 60000, 3\) values"):
        ZarrSlide(path)
