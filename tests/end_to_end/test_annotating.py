"""Annotating a run made by the real commands: crops, marks, import, live view."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from cytoseg.classes import IGNORE
from cytoseg.errors import CheckpointError, LabelError
from cytoseg.geometry import Region
from cytoseg.labels.drawn_marks import origin_of
from cytoseg.labels.index import load_index
from cytoseg.slides.open import find_slides, open_slide, slide_id
from cytoseg.workflows.annotating import Annotating
from cytoseg.workflows.live_results import LiveResults
from cytoseg.workflows.random_annotation_crops import RandomAnnotationCrops

Made = tuple[Path, dict[str, Result]]


@pytest.fixture
def annotating(made_run: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Annotating:
    """The made run with its slides, two of which are for testing (00 and 01)."""
    shutil.copytree(made_run[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Annotating(tmp_path / "runs" / "tiny")


@pytest.fixture
def live(annotating: Annotating) -> LiveResults:
    return LiveResults(annotating)


@pytest.fixture
def random_crops(annotating: Annotating) -> RandomAnnotationCrops:
    return RandomAnnotationCrops(annotating)


def test_crops_are_cut_marked_imported_and_seen(
    annotating: Annotating, live: LiveResults, random_crops: RandomAnnotationCrops
) -> None:
    path = random_crops.cut()
    other = random_crops.cut()
    crops, problems = annotating.crops()
    assert problems == []
    found = {crop.path: crop for crop in crops}
    assert {found[path].slide, found[other].slide} == {"made_2_02"}
    assert not found[path].is_test
    assert path != other
    crop = found[path]
    picture, marks = annotating.open(crop)
    assert picture.shape == (32, 32, 3)
    ids = marks.ids
    assert set(ids.ravel()) == {IGNORE}
    ids[:8, :8], ids[20:, 20:] = 0, 1
    before = {entry.crop for entry in load_index(annotating.labels).crops}
    annotating.take_in(annotating.save(crop, "Anna", ids))
    (new,) = (entry for entry in load_index(annotating.labels).crops if entry.crop not in before)
    assert (new.crop, new.slide) == (path.stem, "made_2_02")
    np.testing.assert_array_equal(new.label_map(), ids)
    assert {crop.path: crop for crop in annotating.crops()[0]}[path].drawn is not None
    seen = live.view(crop, picture, ids)
    assert seen.class_map.shape == (32, 32)
    train = [entry for entry in load_index(annotating.labels).crops if entry.slide == "made_2_02"]
    assert seen.crops == len(train)  # this one is among them
    crops = annotating.crops()[0]
    assert [crop.path for crop in live.most_uncertain(crops, seen)] == [other]  # the only one without marks
    assert live.most_uncertain([replace(found[other], is_test=True), found[path]], seen) == [found[path]]
    assert live.most_uncertain(crops, replace(seen, seconds=9.0))  # rated before


def test_crops_of_test_slides_are_marked_and_never_used_for_training(
    annotating: Annotating, live: LiveResults, random_crops: RandomAnnotationCrops
) -> None:
    crops, _ = annotating.crops()
    tested = [crop for crop in crops if crop.slide != "made_2_02"]
    assert all(crop.is_test for crop in tested)
    assert tested or len(crops) == 2
    path = random_crops.cut()
    crop = next(crop for crop in annotating.crops()[0] if crop.path == path)
    picture, _ = annotating.open(crop)
    marked = np.zeros((32, 32), np.uint8)
    as_test = crop.__class__(crop.path, crop.folder, crop.slide, True, None)
    views = [live.view(as_test, picture, ids).class_map for ids in (marked, marked + 2)]
    np.testing.assert_array_equal(*views)


def test_what_is_missing_is_reported(
    annotating: Annotating, live: LiveResults, random_crops: RandomAnnotationCrops
) -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(CheckpointError, match="cannot propose"):
        live.propose(picture)
    (annotating.run / "to_label" / "lost.crop.json").write_text("[")
    (annotating.run / "to_label" / "lost.png").write_bytes(b"")
    assert any("lost" in problem for problem in annotating.crops()[1])
    with pytest.raises(LabelError, match=r"lost\.crop\.json: is not complete JSON"):
        random_crops.cut()
    (annotating.run / "to_label" / "lost.crop.json").unlink()
    path = random_crops.cut()
    crop = next(crop for crop in annotating.crops()[0] if crop.path == path)
    shutil.rmtree(annotating.labels)
    with pytest.raises(LabelError, match="Mark something in two classes or more"):
        live.view(crop, picture, np.zeros((32, 32), np.uint8))


def test_a_chosen_region_is_cut_to_the_pixel(annotating: Annotating) -> None:
    slide = next(path for path in find_slides(annotating.recipe.slides.folders) if slide_id(path) == "made_2_02")
    with open_slide(slide) as opened:
        whole = opened.levels[0].size
        expected = opened.read_region(Region(5, 7, 40, 33), 0)
    path = annotating.cut(slide, "made_2_02", Region(5, 7, 40, 33))
    (crop,) = (crop for crop in annotating.crops()[0] if crop.path == path)
    picture, marks = annotating.open(crop)
    np.testing.assert_array_equal(picture, expected)
    assert (marks.ids == IGNORE).all()
    assert origin_of(path).region == Region(5, 7, 40, 33)
    written = path.stat().st_mtime_ns
    assert annotating.cut(slide, "made_2_02", Region(5, 7, 40, 33)) == path
    assert path.stat().st_mtime_ns == written
    corner = annotating.cut(slide, "made_2_02", Region(whole.width - 40, whole.height - 35, 99, 99))
    assert origin_of(corner).region == Region(whole.width - 40, whole.height - 35, 40, 35)
    with pytest.raises(LabelError, match="made_2_02_5_7: another crop begins at the same pixel"):
        annotating.cut(slide, "made_2_02", Region(5, 7, 50, 50))
    for region in (Region(5, 5, 31, 90), Region(whole.width, 0, 64, 64), Region(-300, -300, 100, 100)):
        with pytest.raises(LabelError, match="Draw a rectangle with sides of 32 to 1024 pixels"):
            annotating.cut(slide, "made_2_02", region)
