from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cytoseg.slides.raw_map import RawMap

PICTURE = np.arange(7 * 5 * 3, dtype=np.uint8).reshape(7, 5, 3)
NATS = np.arange(35, dtype=np.float32).reshape(7, 5) / 8


@pytest.mark.parametrize("pixels", [PICTURE, NATS], ids=["rgb", "float32"])
def test_parts_in_any_order_make_up_the_file(tmp_path: Path, pixels: NDArray[Any]) -> None:
    raw = RawMap(tmp_path / "raw", width=5, like=pixels[:1, :1])
    for rows, columns in ((slice(4, 7), slice(0, 5)), (slice(0, 4), slice(2, 5)), (slice(0, 4), slice(0, 2))):
        raw.write(pixels[rows, columns], x=columns.start, y=rows.start)
    raw.sync()
    assert raw.path.read_bytes() == pixels.tobytes()


@pytest.mark.parametrize("pixels", [PICTURE, NATS], ids=["rgb", "float32"])
@pytest.mark.parametrize(("x", "width"), [(0, 5), (2, 2), (4, 1)])
def test_a_window_is_a_part_of_it(tmp_path: Path, pixels: NDArray[Any], x: int, width: int) -> None:
    raw = RawMap(tmp_path / "raw", width=5, like=pixels[:1, :1])
    raw.write(pixels, x=0, y=0)
    found = raw.window(x=x, y=2, width=width, height=4)
    np.testing.assert_array_equal(found, pixels[2:6, x : x + width])
    assert found.dtype == pixels.dtype
    assert raw.window(x=0, y=7, width=5, height=0).shape[:2] == (0, 5)


def test_what_is_written_takes_the_kind_of_the_file_and_empty_parts_nothing(tmp_path: Path) -> None:
    raw = RawMap(tmp_path / "raw", width=5, like=NATS[:1, :1])
    raw.write(np.full((1, 2), True), x=3, y=0)
    raw.write(np.empty((0, 5)), x=0, y=1)
    np.testing.assert_array_equal(raw.window(x=0, y=0, width=5, height=1), [[0, 0, 0, 1, 1]])
    raw.remove()
    raw.remove()
    assert list(tmp_path.iterdir()) == []
