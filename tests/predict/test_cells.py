import csv
from pathlib import Path

import numpy as np
import pytest

from cytoseg.predict.cells import COLUMNS, MEASURED, CellTable, Partners, Scale, measured_values
from cytoseg.predict.measure import Content, Shape

SHAPE = Shape(pixels=100, x=4.5, y=6.0, perimeter=40.0, circularity=0.785, eccentricity=0.25)
CONTENT = Content([200.0, 100.0, 50.0, 0.5], [4.0, 3.0, 2.0, 0.1], 0.75, 0.125)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_pixels_become_level_0_pixels_and_micrometres() -> None:
    values = measured_values(SHAPE, CONTENT, x=10, y=20, scale=Scale(downsample=2.0, mpp=0.5))
    named = dict(zip(MEASURED, values, strict=True))
    assert (named["centroid_x_level0_px"], named["centroid_y_level0_px"]) == (29.0, 52.0)
    assert (named["centroid_x_um"], named["centroid_y_um"]) == (7.25, 13.0)
    assert (named["area_px"], named["area_um2"], named["perimeter_um"]) == (100, 25.0, 20.0)
    # A circle of this diameter has the area.
    assert np.pi / 4 * named["equivalent_diameter_um"] ** 2 == pytest.approx(25.0)
    assert (named["green_mean_8bit"], named["green_sd_8bit"], named["optical_density_sd"]) == (100.0, 3.0, 0.1)
    assert (named["confidence_mean"], named["uncertainty_mean_nats"]) == (0.75, 0.125)


def write(tmp_path: Path, pixels: list[int], cytoplasm: list[int], is_cytoplasm: list[bool]) -> list[dict[str, str]]:
    """Write a table of objects with these areas; each list begins with the 0 of no object."""
    with CellTable(tmp_path / "waiting") as table:
        for area, of_cytoplasm in zip(pixels[1:], is_cytoplasm[1:], strict=True):
            shape = Shape(area, 4.5, 6.0, 40.0, 0.785, 0.25)
            table.add(int(not of_cytoplasm), measured_values(shape, CONTENT, x=0, y=0, scale=Scale(1.0, None)))
    partners = Partners(np.array(cytoplasm), np.array(is_cytoplasm), np.array(pixels))
    table.write(tmp_path / "cells.csv", names=("cytoplasm", "nucleus"), partners=partners)
    assert not (tmp_path / "waiting").exists()
    return rows_of(tmp_path / "cells.csv")


def test_without_mpp_micrometres_are_empty(tmp_path: Path) -> None:
    (row,) = write(tmp_path, [0, 100], [0, 0], [False, False])
    assert tuple(row) == COLUMNS
    assert [name for name in COLUMNS if not row[name]] == [
        *("centroid_x_um", "centroid_y_um", "area_um2", "equivalent_diameter_um", "perimeter_um"),
        *("cytoplasm_id", "nuclei", "nucleus_to_cytoplasm_ratio"),
    ]
    assert (row["id"], row["class"], row["area_px"], row["centroid_x_level0_px"]) == ("1", "nucleus", "100", "4.5")


def test_the_ratio_is_that_of_the_whole_cytoplasm_and_all_its_nuclei(tmp_path: Path) -> None:
    # 1 has the nuclei 2 and 4; 3 has none; 5 belongs to nothing.
    rows = write(tmp_path, [0, 400, 60, 300, 40, 50], [0, 0, 1, 0, 1, 0], [False, True, False, True, False, False])
    assert [row["nucleus_to_cytoplasm_ratio"] for row in rows] == ["0.25", "0.25", "", "0.25", ""]
    assert [row["cytoplasm_id"] for row in rows] == ["", "1", "", "1", ""]
    assert [row["nuclei"] for row in rows] == ["2", "", "0", "", ""]


def test_large_coordinates_keep_their_decimals(tmp_path: Path) -> None:
    with CellTable(tmp_path / "waiting") as table:
        table.add(0, measured_values(SHAPE, CONTENT, x=99_999, y=0, scale=Scale(1.0, None)))
    nobody = Partners(np.zeros(2, np.int64), np.zeros(2, np.bool_), np.array([0, 100]))
    table.write(tmp_path / "cells.csv", names=("cell",), partners=nobody)
    assert rows_of(tmp_path / "cells.csv")[0]["centroid_x_level0_px"] == "100003.5"


def test_a_table_without_objects_is_its_header(tmp_path: Path) -> None:
    assert write(tmp_path, [0], [0], [False]) == []
    assert (tmp_path / "cells.csv").read_text() == ",".join(COLUMNS) + "\n"
