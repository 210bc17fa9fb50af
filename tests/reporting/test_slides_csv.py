"""The table of predicted slides: areas, objects and sign-offs; gaps where something is unknown."""

import csv
import json
from io import StringIO
from pathlib import Path

from cytoseg.predict.sign_off_file import SignedOff, write_signed_off
from cytoseg.reporting.slides_csv import slides_csv


def _predicted(folder: Path, classes: dict[str, object], objects: dict[str, object]) -> Path:
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps({"classes": classes, "objects": objects}))
    return folder


def test_each_slide_has_a_row_with_its_sign_off(tmp_path: Path) -> None:
    share = {"pixels": 3, "share": 0.75, "area_um2": 12.5}
    first = _predicted(tmp_path / "a", {"cell": share}, {"cell": {"objects": 4, "pixels": 3}})
    second = _predicted(tmp_path / "=b", {"cell": {"share": 0.5}, "debris": {"share": 0.5}}, {})
    write_signed_off(second, SignedOff("=b", "rejected", "Ben", "2026-11-29T10:00:00+00:00", "=1+1", "cd" * 32))
    one, two = csv.DictReader(StringIO(slides_csv([first, second])))
    assert (one["slide"], one["share cell"], one["area_um2 cell"], one["objects cell"]) == ("a", "0.75", "12.5", "4")
    assert (one["share debris"], one["verdict"], one["of this prediction"]) == ("", "", "")
    assert (two["slide"], two["share debris"], two["area_um2 cell"], two["objects cell"]) == ("'=b", "0.5", "", "")
    assert (two["verdict"], two["author"], two["time"]) == ("rejected", "Ben", "2026-11-29T10:00:00+00:00")
    assert (two["comment"], two["bundle"], two["of this prediction"]) == ("'=1+1", "cd" * 32, "yes")


def test_without_slides_there_is_a_head_alone() -> None:
    assert slides_csv([]) == "slide,verdict,author,time,comment,bundle,of this prediction\r\n"
