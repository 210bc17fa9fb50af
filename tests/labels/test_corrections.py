import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.errors import LabelError
from cytoseg.formats.sidecar import Origin
from cytoseg.geometry import Region
from cytoseg.labels import corrections
from cytoseg.labels.corrections import (
    Correction,
    SavedCorrection,
    correction_of,
    corrections_folder,
    find_corrections,
    now,
    read_correction,
    save_correction,
)
from cytoseg.labels.import_labels import import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.index import load_index

TIME = "2026-03-01T14:05:06.000007+00:00"
ANNA = Correction("036_0", "Anna Øster", TIME, "prediction")
PICTURE = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)
# A cell with a hole of ignore, in which stands a nucleus of one pixel.
RING = np.array(
    [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [1, 255, 255, 255, 1], [1, 255, 2, 255, 1], [1, 255, 255, 255, 1], [1] * 5],
    np.uint8,
)


@pytest.fixture
def save(tmp_path: Path, classes: ClassList) -> Callable[..., SavedCorrection]:
    """Save RING, or another map, as corrected by Anna at TIME, or as said."""

    def saved(label_map: NDArray[np.uint8] = RING, slide: str = "036", **changes: str) -> SavedCorrection:
        correction = Correction(**{**vars(ANNA), **changes})
        folder, origin = corrections_folder(tmp_path), Origin(slide, None)
        return save_correction(folder, correction, origin=origin, picture=PICTURE, label_map=label_map, classes=classes)

    return saved


def imported(source: Path, run: Path, classes: ClassList, **rules: Any) -> dict[str, NDArray[np.uint8]]:
    import_labels(source, run / "labels", classes=classes, rules=ImportRules(**rules))
    return {crop.crop: crop.label_map() for crop in load_index(run / "labels").crops}


Save = Callable[..., SavedCorrection]


def test_a_correction_is_a_labelme_file_with_its_picture(save: Save, tmp_path: Path) -> None:
    saved = save()
    assert saved.path == tmp_path / "review" / "corrections" / "036_0" / "Anna-Øster_20260301T140506Z.json"
    assert saved.sha256 == hashlib.sha256(saved.path.read_bytes()).hexdigest()
    content = json.loads(saved.path.read_text(encoding="utf-8"))
    assert content["cytoseg"] == {"slide": "036", "region": None, "correction": vars(ANNA)}
    assert [shape["label"] for shape in content["shapes"]] == ["cell", "nucleus", "__ignore__"]
    with Image.open(saved.path.parent / content["imagePath"]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), PICTURE)


@pytest.mark.parametrize("area", ["centre", "outline"])
def test_an_import_gives_back_the_label_map_as_the_crop_that_was_corrected(
    save: Save, tmp_path: Path, classes: ClassList, area: str
) -> None:
    save()
    found = imported(corrections_folder(tmp_path), tmp_path, classes, area=area, slide_regex="^(x)_")
    assert list(found) == ["036_0"]
    np.testing.assert_array_equal(found["036_0"], RING)
    assert load_index(tmp_path / "labels").crops[0].slide == "036"


@pytest.mark.parametrize("fill", ["background", None])
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_painted_comes_back(
    tmp_path_factory: pytest.TempPathFactory, fill: str | None, data: st.DataObject
) -> None:
    classes = ClassList(("background", "cell", "nucleus"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), fill)
    height, width = data.draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    ids = data.draw(st.lists(st.sampled_from([0, 1, 2, 255]), min_size=height * width, max_size=height * width))
    label_map = np.array(ids, np.uint8).reshape(height, width)
    run = tmp_path_factory.mktemp("run")
    saved = save_correction(
        corrections_folder(run),
        ANNA,
        origin=Origin("036", Region(8, 0, 14, 14)),
        picture=np.full((height, width, 3), 9, np.uint8),
        label_map=label_map,
        classes=classes,
    )
    np.testing.assert_array_equal(read_correction(saved.path, classes), label_map)
    np.testing.assert_array_equal(imported(saved.path, run, classes)["036_0"], label_map)


def test_files_saved_in_the_same_second_are_not_overwritten(save: Save) -> None:
    first, second = save(), save(np.zeros_like(RING))
    assert second.path.name == "Anna-Øster_20260301T140506Z_2.json"
    assert first.sha256 == hashlib.sha256(first.path.read_bytes()).hexdigest() != second.sha256


def test_a_file_whose_picture_was_taken_away_is_not_overwritten(save: Save) -> None:
    first = save()
    first.path.with_suffix(".png").unlink()
    assert save(np.zeros_like(RING)).path.name == "Anna-Øster_20260301T140506Z_2.json"
    assert not first.path.with_suffix(".png").exists()
    assert first.sha256 == hashlib.sha256(first.path.read_bytes()).hexdigest()


def test_people_who_save_at_the_same_second_all_keep_their_files(
    save: Save, tmp_path: Path, classes: ClassList
) -> None:
    values = [1, 2] * 10
    with ThreadPoolExecutor(4) as people:
        saved = list(people.map(lambda value: save(np.full((6, 5), value, np.uint8)), values))
    assert [int(read_correction(one.path, classes)[0, 0]) for one in saved] == values
    assert len(list((corrections_folder(tmp_path) / "036_0").iterdir())) == 40
    found, problems = find_corrections(corrections_folder(tmp_path), "036_0")
    assert (len(found), problems) == (20, [])


def test_corrections_are_listed_oldest_first_with_their_hash(save: Save, tmp_path: Path) -> None:
    late = save(time="2026-03-02T00:00:00.000000+00:00", author="Anna")
    early = save(author="Ben")
    assert find_corrections(corrections_folder(tmp_path), "036_0") == ([early, late], [])
    assert find_corrections(corrections_folder(tmp_path), "other") == ([], [])
    assert find_corrections(corrections_folder(tmp_path), "../corrections/036_0") == ([], [])


def test_the_time_is_written_so_that_it_sorts() -> None:
    first, second = now(), now()
    assert first <= second
    assert len(first) == len(TIME)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": "../a"}, r"'\.\./a': this crop cannot be corrected"),
        ({"crop": ".hidden"}, r"'\.hidden': this crop"),
        ({"author": ""}, r"036_0: '' is not a valid reviewer name\. Enter your name"),
        ({"author": "a\nb"}, r"036_0: 'a\\nb' is not a valid reviewer name"),
        ({"label_map": np.zeros((5, 6), np.uint8)}, r"036_0: the corrected map has 6x5 pixels, the image 5x6"),
        ({"label_map": np.full((6, 5), 3, np.uint8)}, r"036_0: the corrected map holds id 3, but there are 3 classes"),
    ],
)
def test_what_cannot_be_a_correction_is_refused(
    save: Save, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(LabelError, match=message):
        save(**changes)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said(save: Save, tmp_path: Path) -> None:
    (tmp_path / "review").write_text("a file where the folder should be")
    with pytest.raises(LabelError, match=r"^036_0: the correction cannot be written \(.+\); nothing was saved\. Free"):
        save()


def test_a_full_disk_leaves_nothing_behind(save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(corrections, "write_atomically", full)
    with pytest.raises(LabelError, match=r"cannot be written \(No space left on device\)"):
        save()
    assert list((corrections_folder(tmp_path) / "036_0").iterdir()) == []


@pytest.mark.posix
@pytest.mark.skipif(os.name != "nt" and os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_run_folder_is_said(save: Save, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(LabelError, match=r"cannot be written \(Permission denied\)"):
            save()
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"^x\.json: is cut off or damaged \(.*\)\. Fix the file or remove it\.$"),
        ('{"shapes": []}', r"^x\.json: does not say that it corrects '036_0'"),
        ('{"cytoseg": {"correction": 3}}', r"^x\.json: 'correction' is 3, which does not say who corrected what"),
        ('{"cytoseg": {"correction": {"crop": "036_0"}}}', r"^x\.json: 'correction' is {'crop': '036_0'}, which"),
    ],
)
def test_a_file_that_is_no_correction_is_named_and_the_others_are_found(
    save: Save, tmp_path: Path, text: str, message: str
) -> None:
    saved = save()
    (saved.path.parent / "x.json").write_text(text)
    found, (problem,) = find_corrections(corrections_folder(tmp_path), "036_0")
    assert found == [saved]
    with pytest.raises(LabelError, match=message):
        raise LabelError(problem)


@pytest.mark.parametrize("key", ["crop", "author", "time", "started_from"])
def test_every_part_of_a_correction_is_needed(key: str) -> None:
    entry = {name: value for name, value in vars(ANNA).items() if name != key}
    with pytest.raises(LabelError, match=r"a\.json: 'correction' is .*which does not say who corrected what"):
        correction_of({"cytoseg": {"correction": entry}}, "a.json")


@pytest.mark.parametrize("time", ["yesterday", "2026-03-01T14:05:06", "2026-03-01T14:05:06.000007+02:00", "2026-03-01"])
def test_a_time_that_would_not_sort_is_refused(time: str) -> None:
    with pytest.raises(LabelError, match=r"a\.json: the time of the correction is .*, not one in UTC"):
        correction_of({"cytoseg": {"correction": {**vars(ANNA), "time": time}}}, "a.json")


def test_a_crop_that_leads_out_of_the_folder_is_refused() -> None:
    with pytest.raises(LabelError, match="does not say who corrected what"):
        correction_of({"cytoseg": {"correction": {**vars(ANNA), "crop": "../../a"}}}, "a.json")


@pytest.mark.parametrize("content", [None, [], {}, {"cytoseg": None}, {"cytoseg": {"slide": "a", "region": None}}])
def test_other_files_are_no_corrections(content: object) -> None:
    assert correction_of(content, "a.json") is None


def test_nonsense_in_a_correction_is_said_without_the_folders_above(
    save: Save, tmp_path: Path, classes: ClassList
) -> None:
    path = save().path
    content = json.loads(path.read_text(encoding="utf-8"))
    content["shapes"][0]["points"] = "here"
    content["imagePath"] = "../../../../../etc/hosts"
    path.write_text(json.dumps(content))
    with pytest.raises(LabelError) as caught:
        read_correction(path, classes)
    assert "shape 1: 'points' must be a list of [x, y], found 'here'" in str(caught.value)
    assert "points outside its folder" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_correction_takes_the_place_of_its_crop(
    save: Save, tmp_path: Path, classes: ClassList, write_labelme: Callable[..., Path]
) -> None:
    source = write_labelme(tmp_path / "src", "036_0", imageWidth=5, imageHeight=6).parent
    Image.fromarray(PICTURE).save(source / "036_0.png")
    before = imported(source, tmp_path, classes, slide_regex=r"^(\d+)_")
    assert before["036_0"].max() == 0
    save()
    report = import_labels(corrections_folder(tmp_path), tmp_path / "labels", classes=classes, rules=ImportRules())
    assert (len(report.crops), report.replaced, report.total) == (1, 1, 1)
    np.testing.assert_array_equal(report.crops[0].label_map(), RING)


def test_of_several_corrections_the_newest_is_imported_and_the_people_are_named(
    save: Save, tmp_path: Path, classes: ClassList
) -> None:
    save(np.zeros_like(RING), author="Zoe", time="2026-03-01T00:00:00.000000+00:00")
    save(RING, author="Ben", time="2026-03-03T00:00:00.000000+00:00")
    save(np.ones_like(RING), author="Cem", time="2026-03-02T00:00:00.000000+00:00")
    report = import_labels(corrections_folder(tmp_path), tmp_path / "labels", classes=classes, rules=ImportRules())
    np.testing.assert_array_equal(report.crops[0].label_map(), RING)
    assert "Corrected several times (newest used): 1 (036_0 by Ben, Cem, Zoe)." in report.notes


@pytest.mark.parametrize(
    ("began", "marked"),
    [
        (["annotation"], False),
        (["annotation", "correction"], False),
        (["prediction"], True),
        (["correction of a prediction"], True),
        (["prediction", "correction"], True),  # as older versions wrote it
        (["annotation", "resolution"], False),
        (["annotation", "resolution of a prediction"], True),
        (["prediction", "correction", "resolution"], True),
        (["prediction", "annotation"], False),  # begun from what people had drawn
    ],
)
def test_labels_that_began_as_a_prediction_are_marked(
    save: Save, tmp_path: Path, classes: ClassList, began: list[str], marked: bool
) -> None:
    for day, started_from in enumerate(began, 1):
        save(time=f"2026-03-0{day}T00:00:00.000000+00:00", started_from=started_from)
    imported(corrections_folder(tmp_path), tmp_path, classes)
    (crop,) = load_index(tmp_path / "labels").crops
    assert crop.from_prediction == marked
    # The annotation of the next time is what was imported: the mark stays.
    later = save(time="2026-04-01T00:00:00.000000+00:00", started_from="annotation").path
    imported(later, tmp_path, classes)
    (crop,) = load_index(tmp_path / "labels").crops
    assert crop.from_prediction == marked


def test_a_correction_cannot_move_a_crop_to_another_slide(save: Save, tmp_path: Path, classes: ClassList) -> None:
    save()
    imported(corrections_folder(tmp_path), tmp_path, classes)
    moved = save(slide="017", author="Ben").path
    with pytest.raises(
        LabelError, match=r"crop '036_0' is of slide '036', the correction says '017'\. Fix the correction\."
    ):
        imported(moved, tmp_path, classes)


def test_a_correction_of_another_picture_is_refused(save: Save, tmp_path: Path, classes: ClassList) -> None:
    save()
    other = save(author="Ben").path
    Image.fromarray(255 - PICTURE).save(other.with_suffix(".png"))
    with pytest.raises(LabelError, match=r"another image was imported as crop '036_0' now"):
        imported(corrections_folder(tmp_path), tmp_path, classes)


def test_a_correction_and_the_crop_itself_in_one_folder_clash(
    save: Save, tmp_path: Path, classes: ClassList, write_labelme: Callable[..., Path]
) -> None:
    folder = save().path.parents[1]
    write_labelme(folder, "036_0")
    with pytest.raises(LabelError, match=r"has the same crop id '036_0' as "):
        imported(folder, tmp_path, classes)


def test_a_damaged_correction_stops_the_import(save: Save, tmp_path: Path, classes: ClassList) -> None:
    path = save().path
    path.write_text(path.read_text(encoding="utf-8").replace(TIME, "yesterday"), encoding="utf-8")
    with pytest.raises(LabelError, match="the time of the correction is 'yesterday'"):
        imported(path, tmp_path, classes)
