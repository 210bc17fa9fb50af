from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cytoseg.errors import PredictionError
from cytoseg.geometry import Size
from cytoseg.maps.map_file import MapFile
from cytoseg.objects.cell_table import Partners
from cytoseg.objects.nearest_nucleus import territories
from cytoseg.slides.pyramid import write_pyramid


def _of(folder: Path, ids: NDArray[np.uint32], kinds: str, cytoplasm: list[int]) -> list[int]:
    """Share out the map of these ids; kinds are c, n or another, each list begins with no object."""
    path = folder / "instances.ome.tif"
    write_pyramid(path, [ids], size=Size(ids.shape[1], ids.shape[0]), mpp=None, categorical=True)
    boxes = np.zeros((len(kinds), 4), np.int64)
    for number in range(1, len(kinds)):
        rows, columns = np.nonzero(ids == number)
        boxes[number] = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
    of_kind = np.array(list(kinds))
    pixels = np.bincount(ids.ravel(), minlength=len(kinds))
    nobody = np.zeros(len(kinds), np.bool_)
    partners = Partners(np.array(cytoplasm), of_kind == "c", of_kind == "n", pixels, nobody)
    with MapFile(path) as instances:
        return territories(instances, partners, boxes).tolist()


def test_each_pixel_belongs_to_the_nearest_nucleus(tmp_path: Path) -> None:
    #              nucleus 2 at the left rim, nucleus 3 inside; pixels 2 and 3 are nearer to 2, the other four to 3
    ids = np.array([[2, 1, 1, 1, 1, 3, 1, 1]], np.uint32)
    assert _of(tmp_path, ids, "-cnn", [0, 0, 1, 1]) == [0, 0, 2, 4]


def test_nuclei_just_above_and_below_a_cytoplasm_share_it(tmp_path: Path) -> None:
    ids = np.array([[0, 2, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 3, 0]], np.uint32)
    assert _of(tmp_path, ids, "-cnn", [0, 0, 1, 1]) == [0, 0, 2, 2]


def test_the_shares_add_up_to_the_cytoplasm_whatever_lies_between(tmp_path: Path) -> None:
    ids = np.zeros((20, 30), np.uint32)
    ids[2:18, 3:27] = 1
    ids[5:9, 6:10], ids[10:14, 18:22] = 2, 3
    ids[8:10, 13:15] = 4  # debris
    found = _of(tmp_path, ids, "-cnn=", [0, 0, 1, 1, 0])
    assert sum(found) == np.count_nonzero(ids == 1)
    assert found[:2] == [0, 0]
    assert found[4] == 0
    assert min(found[2:4]) > 100


def test_nuclei_of_another_cytoplasm_take_nothing(tmp_path: Path) -> None:
    ids = np.array([[2, 1, 1, 3, 5, 4, 4, 4, 6]], np.uint32)
    assert _of(tmp_path, ids, "-cnncnn", [0, 0, 1, 1, 0, 4, 4]) == [0, 0, 1, 1, 0, 2, 1]


def test_a_single_nucleus_has_no_share(tmp_path: Path) -> None:
    assert _of(tmp_path, np.array([[2, 1, 1]], np.uint32), "-cn", [0, 0, 1]) == [0, 0, 0]


def test_a_damaged_map_is_named(tmp_path: Path) -> None:
    (tmp_path / "instances.ome.tif").write_bytes(b"no TIFF")
    with pytest.raises(PredictionError, match=r"instances\.ome\.tif: cannot be read"):
        MapFile(tmp_path / "instances.ome.tif")
