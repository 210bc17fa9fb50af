import sys
from pathlib import Path

import pytest

from cytoseg.errors import PredictionError
from cytoseg.objects.parquet import check_parquet, write_parquet

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

COLUMNS = ("id", "class", "area_um2", "cytoplasm_id")


def write(tmp_path: Path, rows: str) -> Path:
    (tmp_path / "cells.csv").write_text(",".join(COLUMNS) + "\n" + rows, encoding="utf-8-sig")
    write_parquet(tmp_path / "cells.csv", tmp_path / "cells.parquet", columns=COLUMNS)
    return tmp_path / "cells.parquet"


def test_columns_keep_their_kinds_and_empty_cells_are_null(tmp_path: Path) -> None:
    table = parquet.read_table(write(tmp_path, "1,nucleus,12.5,2\n2,Zell-Rand ü,300,\n3,,,\n4,'=a'=b,,\n5,a;' @b,,\n"))
    assert [str(kind) for kind in table.schema.types] == ["int64", "string", "double", "int64"]
    assert table.to_pydict() == {
        "id": [1, 2, 3, 4, 5],
        "class": ["nucleus", "Zell-Rand ü", "", "=a'=b", "a; @b"],
        "area_um2": [12.5, 300.0, None, None, None],
        "cytoplasm_id": [2, None, None, None, None],
    }


def test_a_long_table_keeps_its_order_and_gives_the_same_bytes_again(tmp_path: Path) -> None:
    rows = "".join(f"{i},nucleus,{i / 8},{i % 7}\n" for i in range(300_000))
    first = write(tmp_path, rows)
    content = first.read_bytes()
    assert parquet.ParquetFile(first).num_row_groups > 1
    assert parquet.read_table(first)["area_um2"].to_pylist() == [i / 8 for i in range(300_000)]
    assert write(tmp_path, rows).read_bytes() == content


def test_a_table_without_objects_keeps_its_columns(tmp_path: Path) -> None:
    table = parquet.read_table(write(tmp_path, ""))
    assert (table.num_rows, table.column_names) == (0, list(COLUMNS))


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_parquet()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PredictionError, match=r"pip install 'cytoseg\[parquet\]'"):
        check_parquet()
