from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytoseg.errors import SlideError
from cytoseg.geometry import Size
from cytoseg.maps.raster import SCALE, Raster
from cytoseg.slides.pyramid import About, write_pyramid


def _written(path: Path, pixels: np.ndarray, *, categorical: bool = True) -> Path:
    write_pyramid(path, [pixels], size=Size(pixels.shape[1], pixels.shape[0]), mpp=None, categorical=categorical)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.float32])
def test_crossings_are_what_tifffile_reads_on_every_level(tmp_path: Path, dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 200, (600, 1100)).astype(dtype)
    path = _written(tmp_path / "map.ome.tif", values, categorical=dtype != np.float32)
    with Raster(path) as raster, tifffile.TiffFile(path) as tif:
        assert raster.dtype == dtype
        assert [level.downsample for level in raster.levels] == [1, 2, 4]
        for number, level in enumerate(tif.series[0].levels):
            whole = level.asarray()
            height, width = whole.shape
            assert raster.levels[number].size == Size(width, height)
            # Over the edges of tiles (256 px), with a gap and with a pixel that comes twice.
            rows = np.array([0, 1, 1, height // 2, height - 1])
            columns = np.array([0, *range(width - 20, width), width - 1])
            np.testing.assert_array_equal(raster.sample(rows, columns, number), whole[np.ix_(rows, columns)])
            everything = raster.sample(np.arange(height), np.arange(width), number)
            np.testing.assert_array_equal(everything, whole)


def test_a_missing_raster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"^map\.ome\.tif: cannot be read \(.*Predict the slide again\."):
        Raster(tmp_path / "map.ome.tif")


def test_a_damaged_raster_is_refused(tmp_path: Path) -> None:
    (tmp_path / "map.ome.tif").write_bytes(b"II*\0nonsense")
    with pytest.raises(SlideError, match="cannot be read"):
        Raster(tmp_path / "map.ome.tif")


def test_a_picture_is_no_raster(tmp_path: Path) -> None:
    path = tmp_path / "rgb.ome.tif"
    _written(path, np.zeros((300, 300, 3), np.uint8), categorical=False)
    with pytest.raises(SlideError, match="is not a tiled single-channel TIFF"):
        Raster(path)
    tifffile.imwrite(tmp_path / "strips.tif", np.zeros((300, 300), np.uint8))
    with pytest.raises(SlideError, match="is not a tiled single-channel TIFF"):
        Raster(tmp_path / "strips.tif")


def test_a_truncated_raster_is_refused(tmp_path: Path) -> None:
    path = _written(tmp_path / "map.ome.tif", np.random.default_rng(0).integers(0, 200, (600, 600)).astype(np.uint8))
    whole = path.read_bytes()
    (tmp_path / "cut.ome.tif").write_bytes(whole[:200_000])
    with pytest.raises(
        SlideError, match=r"cut.ome.tif: truncated, \d of 9 tiles lie beyond .* Predict the slide again"
    ):
        Raster(tmp_path / "cut.ome.tif")
    with Raster(path) as raster:
        path.write_bytes(whole[:1000])
        with pytest.raises(SlideError, match=r"truncated|damaged"):
            raster.sample(np.arange(600), np.arange(600))


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf", "much"])
def test_a_scale_that_is_none_is_refused(tmp_path: Path, scale: str) -> None:
    path = tmp_path / "a.ome.tif"
    about = About(notes={"cytoseg/values": {SCALE: scale}})
    write_pyramid(path, [np.ones((4, 4), np.uint8)], size=Size(4, 4), mpp=None, about=about)
    with pytest.raises(SlideError, match=r"a.ome.tif: cannot be read \(.*(nats_per_grey_level is|could not convert)"):
        Raster(path)


@pytest.mark.parametrize("key", ["nats_per_grey_level", "value_per_grey_level"])
def test_grey_levels_with_a_scale_come_out_in_its_unit(tmp_path: Path, key: str) -> None:
    path = tmp_path / "a.ome.tif"
    about = About(notes={"cytoseg/values": {key: "0.5"}})
    write_pyramid(path, [np.array([[0, 1], [2, 255]], np.uint8)], size=Size(2, 2), mpp=None, about=about)
    with Raster(path) as raster:
        assert raster.dtype == np.float32
        np.testing.assert_array_equal(raster.sample(np.arange(2), np.arange(2)), [[0, 0.5], [1, 127.5]])


def test_ids_are_unsigned_integers_without_a_scale(tmp_path: Path) -> None:
    ids = np.array([[0, 3], [255, 1]], np.uint8)
    with Raster(_written(tmp_path / "ids.ome.tif", ids), ids=True) as raster:
        np.testing.assert_array_equal(raster.sample(np.arange(2), np.arange(2)), ids)
    _written(tmp_path / "nats.ome.tif", ids.astype(np.float32), categorical=False)
    about = About(notes={"cytoseg/values": {SCALE: "0.5"}})
    write_pyramid(tmp_path / "grey.ome.tif", [ids], size=Size(2, 2), mpp=None, about=about)
    for name in ("nats", "grey"):
        with pytest.raises(SlideError, match=rf"^{name}\.ome\.tif: holds float32 values, not ids. Predict the slide"):
            Raster(tmp_path / f"{name}.ome.tif", ids=True)


def test_tiles_need_not_be_square(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 200, (50, 70), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(16, 32))
    rows, columns = np.array([0, 15, 16, 31, 47, 49]), np.array([3, 31, 32, 63, 64, 69])
    with Raster(tmp_path / "a.tif") as raster:
        np.testing.assert_array_equal(raster.sample(rows, columns), values[np.ix_(rows, columns)])


def test_a_raster_truncated_in_a_coarser_level_alone_is_refused(tmp_path: Path) -> None:
    path = _written(tmp_path / "map.ome.tif", np.random.default_rng(0).integers(0, 200, (600, 600)).astype(np.uint8))
    with tifffile.TiffFile(path, mode="r+b") as tif:
        offsets = tif.series[0].levels[1].keyframe.tags["TileOffsets"]
        offsets.overwrite([10**6, *offsets.value[1:]])
    with pytest.raises(SlideError, match=r"map.ome.tif: truncated, 1 of 4 tiles lie beyond .* Predict the slide again"):
        Raster(path)
