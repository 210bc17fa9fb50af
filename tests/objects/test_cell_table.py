import csv
from pathlib import Path

import numpy as np
import pytest

from cytoseg.objects.cell_table import MEASURED, WITHOUT_MPP, CellTable, Partners, Scale, columns_of, measured_values
from cytoseg.objects.measurements import Content, Shape

SHAPE = Shape(pixels=100, x=4.5, y=6.0, perimeter=40.0, circularity=0.785, eccentricity=0.25)
CONTENT = Content([200.0, 100.0, 50.0, 0.5], [4.0, 3.0, 2.0, 0.1], 0.75, 0.125)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
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


def test_without_mpp_lengths_are_in_pixels() -> None:
    values = measured_values(SHAPE, CONTENT, x=10, y=20, scale=Scale(downsample=2.0, mpp=None))
    named = dict(zip(WITHOUT_MPP, values, strict=True))
    assert (named["centroid_x_level0_px"], named["area_px"], named["perimeter_px"]) == (29.0, 100, 40.0)
    assert named["equivalent_diameter_px"] == pytest.approx(2 * np.sqrt(100 / np.pi))
    assert not any(name.endswith(("_um", "_um2")) for name in WITHOUT_MPP)


def write(
    tmp_path: Path,
    pixels: list[int],
    cytoplasm: list[int],
    kinds: str,
    *,
    between: tuple[int, ...] = (),
    shares: dict[int, int] | None = None,
) -> list[dict[str, str]]:
    """Write a table of objects of these areas and kinds (c, n or another); each list begins with no object."""
    scale = Scale(1.0, None)
    with CellTable(tmp_path / "waiting", scale) as table:
        for area, kind in zip(pixels[1:], kinds[1:], strict=True):
            shape = Shape(area, 4.5, 6.0, 40.0, 0.785, 0.25)
            table.add("cn".find(kind) % 3, measured_values(shape, CONTENT, x=0, y=0, scale=scale))
    of_kind = np.array(list(kinds))
    several = np.isin(np.arange(len(pixels)), between)
    partners = Partners(np.array(cytoplasm), of_kind == "c", of_kind == "n", np.array(pixels), several)
    shared = np.array([(shares or {}).get(number, 0) for number in range(len(pixels))])
    names = ("cytoplasm", "nucleus", "=debris")
    table.write(tmp_path / "cells.csv", names=names, partners=partners, shares=shared)
    assert not (tmp_path / "waiting").exists()
    return rows_of(tmp_path / "cells.csv")


def test_without_mpp_no_column_is_empty_but_those_of_cells(tmp_path: Path) -> None:
    (row,) = write(tmp_path, [0, 100], [0, 0], "-n")
    assert tuple(row) == columns_of(Scale(1.0, None))
    empty = ["cytoplasm_id", "nuclei", "cytoplasm_px", "cytoplasm_is", "nucleus_to_cytoplasm_ratio"]
    assert [name for name in row if not row[name]] == empty
    assert (row["id"], row["class"], row["area_px"], row["centroid_x_level0_px"]) == ("1", "nucleus", "100", "4.5")
    assert row["perimeter_px"] == "40"


def test_a_ratio_needs_one_nucleus_in_one_cytoplasm(tmp_path: Path) -> None:
    # 1 has the nuclei 2 and 4; 3 has none; 5 belongs to nothing; 6 has 7; 8 has 9, which borders on others too.
    areas, cytoplasm = [0, 400, 60, 300, 40, 50, 200, 50, 90, 9, 5], [0, 0, 1, 0, 1, 0, 0, 6, 0, 8, 0]
    rows = write(tmp_path, areas, cytoplasm, "-cncnncncn=", between=(9,))
    assert [row["nucleus_to_cytoplasm_ratio"] for row in rows] == [*[""] * 5, "0.25", "0.25", "", "", ""]
    assert [row["no_ratio_because"] for row in rows] == [
        "2 nuclei in one cytoplasm",
        "2 nuclei in one cytoplasm",
        "no nucleus in this cytoplasm",
        "2 nuclei in one cytoplasm",
        "no cytoplasm around this nucleus",
        "",
        "",
        "several cytoplasms around its nucleus",
        "several cytoplasms around this nucleus",
        "",
    ]
    assert [row["cytoplasm_id"] for row in rows] == ["", "1", "", "1", "", "", "6", "", "8", ""]
    assert [row["nuclei"] for row in rows] == ["2", "", "0", "", "", "1", "", "1", "", ""]
    assert rows[-1]["class"] == "'=debris"


def test_nuclei_of_one_cytoplasm_have_what_is_nearest(tmp_path: Path) -> None:
    # 1 has the nuclei 2 and 3, which have 300 and 100 of its pixels; 4 has 5; 6 has 7 and 8, of which 8 has none.
    areas, cytoplasm = [0, 400, 60, 50, 200, 50, 90, 9, 5], [0, 0, 1, 1, 0, 4, 0, 6, 6]
    rows = write(tmp_path, areas, cytoplasm, "-cnncncnn", shares={2: 300, 3: 100, 7: 90})
    assert [row["nucleus_to_cytoplasm_ratio"] for row in rows] == ["", "0.2", "0.5", "0.25", "0.25", "", "0.1", ""]
    assert [row["cytoplasm_px"] for row in rows] == ["", "300", "100", "200", "200", "", "90", ""]
    nearest = "nearest to this nucleus"
    assert [row["cytoplasm_is"] for row in rows] == ["", nearest, nearest, "whole", "whole", "", nearest, ""]
    clump = "2 nuclei in one cytoplasm"
    assert [row["no_ratio_because"] for row in rows] == [clump, "", "", "", "", clump, "", clump]


def test_the_table_begins_with_the_mark_that_excel_knows(tmp_path: Path) -> None:
    write(tmp_path, [0, 100], [0, 0], "-n")
    assert (tmp_path / "cells.csv").read_bytes().startswith(b"\xef\xbb\xbfid,class,")


def test_large_coordinates_keep_their_decimals(tmp_path: Path) -> None:
    with CellTable(tmp_path / "waiting", Scale(1.0, None)) as table:
        table.add(0, measured_values(SHAPE, CONTENT, x=99_999, y=0, scale=Scale(1.0, None)))
    none = np.zeros(2, np.bool_)
    nobody = Partners(np.zeros(2, np.int64), none, none, np.array([0, 100]), none)
    table.write(tmp_path / "cells.csv", names=("cell",), partners=nobody, shares=np.zeros(2, np.int64))
    assert rows_of(tmp_path / "cells.csv")[0]["centroid_x_level0_px"] == "100003.5"


def test_a_table_without_objects_is_its_header(tmp_path: Path) -> None:
    assert write(tmp_path, [0], [0], "-") == []
    head = ",".join(columns_of(Scale(1.0, None))) + "\n"
    assert (tmp_path / "cells.csv").read_text(encoding="utf-8-sig") == head
