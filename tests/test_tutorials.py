"""The tutorials on own slides and on QuPath, typed line by line on small synthetic slides."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import tifffile

from cytoseg.labels.drawn_marks import drawn_of, origin_of
from cytoseg.labels.readings import save_reading
from cytoseg.recipe import load_recipe
from cytoseg.slides.open import find_slides, slide_id
from cytoseg.synthetic.generate import labels_path
from cytoseg.workflows.crop_split import split_of
from tests.test_docs import TEXTS
from tests.test_readme import blocks, run_block

NOT_RUN = {
    "cytoseg train-ddpm mylab.yaml --resume": "instead of the base model, on a GPU",
    "cytoseg doctor mylab.yaml": "checks that model",
    "cytoseg compare mylab.yaml --quick": "takes minutes; see end_to_end/test_compare.py",
    "cytoseg review mylab.yaml": "serves until it is stopped; see browser/",
}
SMALLER = {
    "/data/smears": "smears",
    "recipe new mylab.yaml": "recipe new mylab.yaml --folder smears --mpp 1 --classes background,cytoplasm,nucleus",
    "--n 30": "--n 6",
}


def _lines(page: str) -> list[str]:
    """All lines of a page's shell blocks, each with what makes it small enough for a test."""
    lines = [line for _, block in blocks("sh", TEXTS[page]) for line in block]
    return [_replaced(line, SMALLER) for line in lines if line not in NOT_RUN]


def _replaced(line: str, by: Mapping[str, str]) -> str:
    for old, new in by.items():
        line = line.replace(old, new)
    return line


def _mark(crops: Path) -> None:
    """Mark each crop as the slide's own label map says, as a person would in labelme."""
    recipe = load_recipe("mylab.yaml")
    truth = {slide_id(path): labels_path(path) for path in find_slides(recipe.slides.folders)}
    for path in sorted(crops.glob("*.png")):
        origin = origin_of(path)
        at = origin.region
        with tifffile.TiffFile(truth[origin.slide]) as labels:
            ids = labels.series[0].levels[1].asarray()[at.y // 2 :, at.x // 2 :][: at.height // 2, : at.width // 2]
        save_reading(
            path, "Anna", "2026-01-01", label_map=ids.copy(), classes=recipe.class_list(), known=drawn_of(path)
        )


@pytest.mark.slow
def test_own_slides_and_the_way_to_qupath_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_block(["cytoseg slides generate made --n 4 --width 1024 --height 1024 --mpp 0.5"])
    Path("made/slides").rename("smears")
    lines = _lines("tutorials/your-slides.md")
    assert len(lines) == 8
    imported = next(number for number, line in enumerate(lines) if "label-import" in line)
    run_block(lines[:imported])
    _mark(Path("runs/mylab/to_label"))
    run_block(lines[imported:])
    split = split_of(load_recipe("mylab.yaml"))
    assert len(split.train) + len(split.test) == 6
    assert len(list(Path("runs/mylab/predictions").glob("*/cells.csv"))) == 4
    back, out = _lines("tutorials/qupath.md")
    run_block([_replaced(out, {" out ": " exports "})])
    before = {crop.crop: crop.label_sha256 for crop in (*split.train, *split.test)}
    run_block([back.replace("slides/", "smears/")])
    after = split_of(load_recipe("mylab.yaml"))
    assert {crop.crop: crop.label_sha256 for crop in (*after.train, *after.test)} == before


def test_what_is_not_run_is_still_on_the_page() -> None:
    assert set(NOT_RUN) <= {line for _, block in blocks("sh", TEXTS["tutorials/your-slides.md"]) for line in block}
