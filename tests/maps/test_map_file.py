from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cytoseg.errors import PredictionError
from cytoseg.geometry import Size
from cytoseg.maps.map_file import MapFile
from cytoseg.slides.pyramid import write_pyramid


@pytest.fixture
def values() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((300, 700), np.float32)


def _write(path: Path, values: NDArray[Any]) -> Path:
    write_pyramid(path, [values], size=Size(values.shape[1], values.shape[0]), mpp=None)
    return path


@pytest.mark.parametrize("part", [(0, 0, 700, 300), (255, 250, 3, 20), (512, 256, 188, 44), (10, 3, 1, 1)])
def test_a_part_is_what_tifffile_reads(
    tmp_path: Path, values: NDArray[np.float32], part: tuple[int, int, int, int]
) -> None:
    x, y, width, height = part
    path = _write(tmp_path / "slide" / "uncertainty.ome.tif", values)
    with MapFile(path) as found:
        read = found.read(x, y, width=width, height=height)
        assert (found.size, read.dtype) == (Size(700, 300), np.float32)
    np.testing.assert_array_equal(read, tifffile.imread(path)[y : y + height, x : x + width])
    np.testing.assert_array_equal(read, values[y : y + height, x : x + width])


def test_beyond_the_edges_is_what_is_asked_for(tmp_path: Path, values: NDArray[np.float32]) -> None:
    with MapFile(_write(tmp_path / "a.tif", values)) as found:
        read = found.read(-2, -1, width=4, height=3, outside=7)
        np.testing.assert_array_equal(read[1:, 2:], values[:2, :2])
        assert (read[0] == 7).all()
        assert (read[:, :2] == 7).all()
        assert (found.read(699, 299, width=2, height=2, outside=7)[1] == 7).all()
        assert (found.read(800, 0, width=2, height=2) == 0).all()


def test_only_the_tiles_in_reach_are_decoded(
    tmp_path: Path, values: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    with MapFile(_write(tmp_path / "a.tif", values)) as found:
        decoded, tiles = [], found._raster._tiles[0]
        read = tiles.read

        def noted(descriptor: int, x: int, y: int) -> object:
            decoded.append((x, y))
            return read(descriptor, x, y)

        monkeypatch.setattr(tiles, "read", noted)
        found.read(250, 100, width=10, height=10)
    assert decoded == [(0, 0), (256, 0)]


def test_what_cannot_be_read_is_reported_with_its_slide(tmp_path: Path, values: NDArray[np.float32]) -> None:
    again = r"cannot be read \(.*\). Predict the slide again."
    with pytest.raises(PredictionError, match=f"smear/a.tif: {again}"):
        MapFile(tmp_path / "smear" / "a.tif")
    path = _write(tmp_path / "smear" / "b.tif", values)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PredictionError, match=f"smear/b.tif: {again}"):
        MapFile(path)
    tifffile.imwrite(tmp_path / "smear" / "c.tif", np.zeros((4, 4), np.uint8))
    with pytest.raises(PredictionError, match="not a tiled single-channel TIFF"):
        MapFile(tmp_path / "smear" / "c.tif")


def test_a_map_of_ids_holds_unsigned_integers(tmp_path: Path, values: NDArray[np.float32]) -> None:
    path = _write(tmp_path / "slide" / "class_map.ome.tif", values)
    with pytest.raises(PredictionError, match=r"^slide/class_map\.ome\.tif: .* float32 values, not ids"):
        MapFile(path, ids=True)
    ids = _write(tmp_path / "slide" / "ids.ome.tif", (values * 3).astype(np.uint8))
    with MapFile(ids, ids=True) as found:
        assert found.read(0, 0, width=1, height=1).dtype == np.uint8


def test_a_damaged_tile_is_reported_when_it_is_read(tmp_path: Path, values: NDArray[np.float32]) -> None:
    path = _write(tmp_path / "smear" / "a.tif", values)
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[1], tif.pages[0].databytecounts[1]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * count)
    with MapFile(path) as found:
        found.read(0, 0, width=256, height=256)
        with pytest.raises(PredictionError, match=r"smear/a.tif: cannot be read \(.*tile 1 at x 256, y 0 is damaged"):
            found.read(0, 0, width=257, height=1)
