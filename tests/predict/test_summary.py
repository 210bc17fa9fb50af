"""summary.json of a predicted slide: reading intact and damaged ones."""

import json
from pathlib import Path

import pytest

from cytoseg.errors import PredictionError
from cytoseg.objects.settings import ClassTotals
from cytoseg.predict.summary import ClassArea, SlideSummary, classes_of, summary_of


def test_what_is_used_is_read(tmp_path: Path) -> None:
    record = {
        "format": 1,
        "slide": "a.tif",
        "slide_path": "slides/a.tif",
        "mpp": 1,
        "classes": {"cell": {"pixels": 3, "share": 0.5, "area_um2": None}},
        "objects": {"cell": {"objects": 2, "sheets": 1}},
        "provenance": {"bundle": {"sha256": {"ensemble": "0"}}},
    }
    (tmp_path / "summary.json").write_text(json.dumps(record))
    assert summary_of(tmp_path) == SlideSummary(
        slide_path="slides/a.tif",
        mpp=1.0,
        classes={"cell": ClassArea(3, 0.5)},
        objects={"cell": ClassTotals(objects=2, sheets=1)},
        provenance={"bundle": {"sha256": {"ensemble": "0"}}},
    )
    assert classes_of(tmp_path) == ["cell"]


@pytest.mark.parametrize("text", [None, "{", "[1]", '{"slide_path": 3}', '{"format": 2, "slide_path": "a.tif"}'])
def test_a_missing_or_damaged_summary_says_nothing(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "summary.json").write_text(text)
    assert summary_of(tmp_path) == SlideSummary()


@pytest.mark.parametrize("summary", ["{}", "[]", "null", '{"classes": 3}', '{"classes": [1, 2]}', "{", "[" * 9999])
def test_a_summary_whose_classes_are_none_is_refused(tmp_path: Path, summary: str) -> None:
    (tmp_path / "summary.json").write_text(summary)
    with pytest.raises(PredictionError, match=r"summary\.json .*Run `cytoseg predict RECIPE SLIDE` on it again"):
        classes_of(tmp_path)
