import gzip
import json
import zipfile
from pathlib import Path

from cytoseg.formats.json_files import Inspected
from cytoseg.labels.find_geojson import holds_geojson, packed_or_named
from tests.labels.features import box

CELL = json.dumps({"type": "FeatureCollection", "features": [box("cell", 1, 1, 2, 2)]})
OTHER = json.dumps({"shapes": [], "imagePath": "a.png"})


def _zip(path: Path, *members: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number, text in enumerate(members):
            archive.writestr(f"{number}.json", text)


def test_compressed_json_counts_if_it_holds_geojson_only(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "named.GeoJSON").write_text("damaged")
    (tmp_path / "below/a.json.GZ").write_bytes(gzip.compress(CELL.encode()))
    (tmp_path / "labelme.json.gz").write_bytes(gzip.compress(OTHER.encode()))
    (tmp_path / "damaged.json.gz").write_bytes(gzip.compress(CELL.encode())[:-20])
    (tmp_path / ".hidden.json.gz").write_bytes(gzip.compress(CELL.encode()))
    _zip(tmp_path / "two.zip", CELL, CELL)
    _zip(tmp_path / "mixed.zip", CELL, OTHER)
    _zip(tmp_path / "empty.zip")
    _zip(tmp_path / "book.xlsx", CELL)
    found = {path.relative_to(tmp_path).as_posix() for path in packed_or_named(tmp_path, Inspected())}
    assert found == {"named.GeoJSON", "below/a.json.GZ", "two.zip"}


def test_plain_json_is_looked_into(tmp_path: Path) -> None:
    for name, text in {"a.json": CELL, "b.json": OTHER, "c.json": CELL[:-5], "d.geojson": OTHER}.items():
        (tmp_path / name).write_text(text)
    assert [holds_geojson(path, Inspected()) for path in sorted(tmp_path.iterdir())] == [True, False, False, True]
