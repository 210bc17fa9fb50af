"""Correct: reviewing, saving and logging, and the messages on failure."""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from streamlit.testing.v1 import AppTest

from cytoseg.classes import ClassList
from cytoseg.errors import CytosegError
from cytoseg.formats.sidecar import Origin
from cytoseg.geometry import Region
from cytoseg.labels.corrections import (
    Correction,
    corrections_folder,
    find_corrections,
    read_correction,
    save_correction,
)
from cytoseg.labels.import_labels import import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.original_annotation import OriginalAnnotation, write_original
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.review.append_only import log_of
from cytoseg.review.review_log import Entry, read_entries

Review = Callable[..., AppTest]
FIRST = "smear_A_0_512"
NAMED = "quickstart 2026-03-02T09:00"
"""As the log calls the made run: a shared one may know other runs of that name."""
CLASSES = ClassList(
    ("background", "cytoplasm", "nucleus", "debris"),
    ((240, 240, 240), (86, 180, 233), (213, 94, 0), (0, 158, 115)),
    "background",
)


class Browser:
    """In the editor's place: notes what it is given, and answers once with ``answer``."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.answer: NDArray[np.uint8] | None = None

    def edit(
        self, picture: NDArray[np.uint8], ids: NDArray[np.uint8], classes: ClassList, **options: Any
    ) -> NDArray[np.uint8] | None:
        self.given = {"picture": picture, "ids": ids, "classes": classes, **options}
        answer, self.answer = self.answer, None
        return answer


@pytest.fixture
def run(made_run: Path) -> Path:
    return made_run


@pytest.fixture
def browser(review: Review, monkeypatch: pytest.MonkeyPatch) -> Browser:
    found = Browser()
    monkeypatch.setattr(importlib.import_module("editor"), "edit", found.edit)
    return found


@pytest.fixture(autouse=True)
def _no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each run of a page, look whether it ended in an exception."""
    original = AppTest.run

    def checked(self: AppTest, **options: float | None) -> AppTest:
        app = original(self, **options)
        assert not app.exception, app.exception
        return app

    monkeypatch.setattr(AppTest, "run", checked)


def _named(review: Review, name: str = "Anna Øster") -> AppTest:
    app = review("correct")
    app.text_input[0].set_value(name).run()
    return app


def _button(app: AppTest, label: str) -> Any:
    return next(button for button in app.main.button if button.label == label)


def _log(run: Path) -> list[Entry]:
    return read_entries(log_of(run, None))


def _texts(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.info, *app.warning, *app.error]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


def _correct(run: Path, author: str, value: int | list[list[int]], *, day: int = 1) -> Path:
    correction = Correction(FIRST, author, f"2026-03-0{day}T14:05:06.000007+00:00", "prediction")
    return save_correction(
        corrections_folder(run),
        correction,
        origin=Origin("smear_A", None),
        picture=np.full((4, 4, 3), 100, np.uint8),
        label_map=np.broadcast_to(np.array(value, np.uint8), (4, 4)).copy(),
        classes=CLASSES,
    ).path


def test_the_worst_crop_is_given_to_the_editor_with_its_annotation(review: Review, run: Path, browser: Browser) -> None:
    review("correct")
    assert browser.given["ids"].tolist() == [[1] * 4] * 4
    assert browser.given["picture"].tolist() == [[[100] * 3] * 4] * 4
    assert browser.given["classes"] == CLASSES
    assert browser.given["token"].startswith(f"quickstart/{FIRST}/truth.png/")


def test_without_a_name_nothing_can_be_said_or_saved(review: Review, run: Path, browser: Browser) -> None:
    browser.answer = np.zeros((4, 4), np.uint8)
    app = review("correct")
    assert not browser.given["may_save"]
    assert [_button(app, label).disabled for label in ("Accept", "Reject", "Comment")] == [True] * 3
    app.text_input[0].set_value("  \t ").run()
    assert not browser.given["may_save"]
    assert not (run / "review").exists()


def test_the_name_is_asked_once_for_all_pages(review: Review, run: Path, browser: Browser) -> None:
    app = _named(review, "  山田   太郎 ")
    app.switch_page("pages/crop.py").run()
    app.switch_page("pages/correct.py").run()
    assert app.text_input[0].value == "山田 太郎"
    assert browser.given["may_save"]


def test_a_correction_is_saved_with_its_slide_logged_and_shown_again(
    review: Review, run: Path, browser: Browser
) -> None:
    app = _named(review)
    begun = browser.given["token"]
    painted = np.array([[0, 1, 1, 255], [0, 3, 3, 255], [0, 1, 1, 2], [0, 0, 0, 2]], np.uint8)
    browser.answer = painted
    app.text_area[0].set_value("the edge").run()
    ((saved,), problems) = find_corrections(corrections_folder(run), FIRST)
    assert problems == []
    assert (saved.correction.author, saved.correction.started_from) == ("Anna Øster", "annotation")
    (entry,) = _log(run)
    assert (entry.author, entry.run, entry.crop, entry.slide) == ("Anna Øster", NAMED, FIRST, "smear_A")
    assert (entry.action, entry.comment, entry.sha256) == ("corrected", "the edge", saved.sha256)
    assert run / entry.file == saved.path
    assert app.text_area[0].value == ""
    np.testing.assert_array_equal(browser.given["ids"], painted)
    assert browser.given["saved"] == begun != browser.given["token"]
    report = import_labels(corrections_folder(run), run / "labels", classes=CLASSES, rules=ImportRules())
    assert [(crop.crop, crop.slide) for crop in report.crops] == [(FIRST, "smear_A")]
    np.testing.assert_array_equal(report.crops[0].label_map(), painted)


def test_a_correction_knows_its_place_by_the_labels_that_the_recipe_names(
    review: Review, run: Path, browser: Browser, tmp_path: Path
) -> None:
    recipe = load_recipe("quickstart", ["labels.folder=shared"])
    (run / "recipe.yaml").write_text(dump_recipe(recipe))
    place = Region(0, 512, 4, 4)
    write_original(tmp_path / "shared", FIRST, OriginalAnnotation(Origin("smear_A", place)))
    app = review("correct", "--base", str(tmp_path))
    browser.answer = np.ones((4, 4), np.uint8)
    app.text_input[0].set_value("Anna").run()
    ((saved,), _) = find_corrections(corrections_folder(run), FIRST)
    assert json.loads(saved.path.read_text())["cytoseg"]["region"] == [0, 512, 4, 4]


def test_what_another_saves_meanwhile_does_not_slip_under_the_brush(
    review: Review, run: Path, browser: Browser
) -> None:
    _correct(run, "Ben", 1)
    app = _named(review)
    app.segmented_control[0].set_value("Latest correction").run()
    begun = browser.given["token"]
    assert "By Ben, 2026-03-01" in _texts(app)
    _correct(run, "Cem", 2, day=2)
    app.run()
    assert browser.given["token"] == begun
    app.segmented_control[0].set_value("Annotation").run()
    assert browser.given["ids"].tolist() == [[1] * 4] * 4
    app.segmented_control[0].set_value("Latest correction").run()
    assert "By Cem, 2026-03-02" in _texts(app)
    assert browser.given["ids"].tolist() == [[2] * 4] * 4


@pytest.mark.parametrize(
    ("label", "action"), [("Accept", "accepted"), ("Reject", "rejected"), ("Comment", "commented")]
)
def test_what_is_said_is_logged(review: Review, run: Path, browser: Browser, label: str, action: str) -> None:
    app = _named(review)
    app.text_area[0].set_value("too dark").run()
    _button(app, label).click().run()
    (entry,) = _log(run)
    assert (entry.action, entry.comment, entry.file) == (action, "too dark", "")
    assert app.dataframe[0].value[["Who", "What", "Comment"]].to_numpy().tolist() == [
        ["Anna Øster", action, "too dark"]
    ]


def test_a_comment_stays_with_the_crop_that_it_was_typed_for(review: Review, run: Path, browser: Browser) -> None:
    app = _named(review)
    app.text_area[0].set_value("only the first")
    _button(app, "Next").click().run()
    assert app.text_area[0].value == ""
    _button(app, "Accept").click().run()
    _button(app, "Previous").click().run()
    assert app.text_area[0].value == "only the first"
    _button(app, "Reject").click().run()
    said = [(entry.crop, entry.action, entry.comment) for entry in _log(run)]
    assert said == [("smear_A_256_512", "accepted", ""), (FIRST, "rejected", "only the first")]
    assert app.text_area[0].value == ""


def test_a_correction_of_another_run_is_not_begun_from(review: Review, run: Path, browser: Browser) -> None:
    _correct(run, "Ben", 3)
    shutil.copytree(run, run.parent / "second")
    shutil.rmtree(run.parent / "second" / "review")
    app = review("correct", "--run", str(run))
    app.segmented_control[0].set_value("Latest correction").run()
    app.sidebar.selectbox[0].select("second").run()
    assert app.segmented_control[0].options == ["Prediction", "Annotation"]
    _correct(run.parent / "second", "Cem", 2)
    app.run()
    app.segmented_control[0].set_value("Latest correction").run()
    assert "By Cem" in _texts(app)
    assert browser.given["token"].startswith("second/")
    app.sidebar.selectbox[0].select("quickstart").run()
    assert "By Ben" in _texts(app)


def test_a_comment_needs_words(review: Review, run: Path, browser: Browser) -> None:
    assert _button(_named(review), "Comment").disabled


def test_the_log_is_shown_for_the_crop_and_for_all_and_can_be_downloaded(
    review: Review, run: Path, browser: Browser
) -> None:
    app = _named(review, "=Anna")
    _button(app, "Accept").click().run()
    _button(app, "Next").click().run()
    assert app.dataframe[0].value.empty
    _button(app, "Reject").click().run()
    here, whole = app.dataframe[0].value, app.dataframe[1].value
    assert here["What"].tolist() == ["rejected"]
    assert whole["What"].tolist() == ["rejected", "accepted"]
    assert whole["Crop"].tolist() == ["smear_A_256_512", FIRST]
    assert [button.label for button in app.download_button] == ["Download the log (CSV)"]


def test_entries_stay_when_the_record_of_the_run_is_lost(review: Review, run: Path, browser: Browser) -> None:
    _button(_named(review), "Accept").click().run()
    (run / "run.json").unlink()
    assert review("correct").dataframe[0].value["What"].tolist() == ["accepted"]


def test_two_people_who_corrected_the_same_crop_are_compared(review: Review, run: Path, browser: Browser) -> None:
    _correct(run, "Ben", 1)
    assert "Agreement" not in [part.value for part in review("correct").subheader]
    _correct(run, "Anna", 2)
    _correct(run, "Anna", 1, day=2)
    app = review("correct")
    here, whole = (table.value for table in app.dataframe)
    assert here.to_numpy().tolist() == whole.to_numpy().tolist()
    assert here.loc[0, ["People", "Crops", "Same class", "Cohen's kappa"]].tolist() == [
        "Anna, Ben",
        1,
        "100.0 %",
        "n/a",
    ]
    assert here.loc[0, ["IoU background", "IoU cytoplasm"]].tolist() == ["n/a", "1.00"]
    assert "0 is what chance alone would give" in _texts(app)


def test_kappa_of_two_people_who_differ(review: Review, run: Path, browser: Browser) -> None:
    """Of 16 pixels they agree on 12; by chance it would be half.

    Ben gives 8 pixels cytoplasm and 8 nucleus, Anna 12 and 4: by chance 1/2 x 3/4 + 1/2 x 1/4 = 1/2 agree. So kappa is
    (3/4 - 1/2) / (1 - 1/2) = 1/2. Of cytoplasm they share 8 of 12 pixels, of nucleus 4 of 8.
    """
    _correct(run, "Ben", [[1] * 4, [1] * 4, [2] * 4, [2] * 4])
    _correct(run, "Anna", [[1] * 4, [1] * 4, [1] * 4, [2] * 4])
    here = review("correct").dataframe[0].value
    wanted = ["Same class", "Cohen's kappa", "IoU background", "IoU cytoplasm", "IoU nucleus"]
    assert here.loc[0, wanted].tolist() == ["75.0 %", "0.50", "n/a", "0.67", "0.50"]


def test_a_correction_edited_into_nonsense_is_one_sentence_and_the_others_stay(
    review: Review, run: Path, browser: Browser
) -> None:
    _correct(run, "Ben", 1)
    _correct(run, "Cem", 1, day=2).write_text("{nonsense")
    app = review("correct")
    assert "A correction of this crop cannot be read: Cem_20260302T140506Z.json: is cut off or damaged" in _texts(app)
    app.segmented_control[0].set_value("Latest correction").run()
    assert "By Ben" in _texts(app)


def test_shapes_edited_into_nonsense_are_one_sentence_without_a_path(
    review: Review, run: Path, browser: Browser
) -> None:
    path = _correct(run, "Ben", 1)
    path.write_text(path.read_text().replace('"cytoplasm"', '"cyto"'))
    app = review("correct")
    app.segmented_control[0].set_value("Latest correction").run()
    assert "label 'cyto' is not in the class list" in app.error[0].value.replace("\\", "")
    assert str(run) not in _texts(app)
    app.segmented_control[0].set_value("Prediction").run()
    assert not app.error


def test_a_picture_that_cannot_be_decoded_is_one_sentence(review: Review, run: Path, browser: Browser) -> None:
    (run / "evaluation" / "crops" / FIRST / "image.png").write_bytes(b"no image")
    message = review("correct").error[0].value.replace("\\", "")
    assert message == f"{FIRST}/image.png cannot be read as an image. Run the command that writes it again."


def test_maps_of_another_size_are_said(review: Review, run: Path, browser: Browser) -> None:
    Image.new("L", (5, 4)).save(run / "evaluation" / "crops" / FIRST / "truth.png")
    assert "truth.png differs in size from the image" in _texts(review("correct"))


def test_a_place_that_cannot_be_written_is_said_and_nothing_is_lost(
    review: Review, run: Path, browser: Browser
) -> None:
    (run / "review").write_text("a file where the folder should be")
    app = _named(review)
    begun = browser.given["token"]
    browser.answer = np.zeros((4, 4), np.uint8)
    app.run()
    assert "the correction cannot be written" in app.error[0].value.replace("\\", "")
    assert str(run) not in _texts(app)
    app.run()
    assert (browser.given["token"], browser.given["saved"]) == (begun, "")
    _button(app, "Accept").click().run()
    assert f"{FIRST}: nothing was logged, for the review log log.sqlite cannot be written" in _texts(app)


def test_a_correction_that_cannot_be_logged_is_saved(review: Review, run: Path, browser: Browser) -> None:
    app = _named(review)
    (run / "review").mkdir()
    (run / "review" / "log.sqlite").write_bytes(b"no database" * 500)
    browser.answer = np.zeros((4, 4), np.uint8)
    app.run()
    assert f"{FIRST}: the correction is saved, but not logged, for the review log log.sqlite is damaged" in _texts(app)
    assert len(find_corrections(corrections_folder(run), FIRST)[0]) == 1
    app.run()
    assert browser.given["ids"].tolist() == [[0] * 4] * 4
    assert "The review log log.sqlite is damaged (file is not a database)" in _texts(app)


def test_a_map_that_is_none_of_this_crop_is_not_saved(review: Review, run: Path, browser: Browser) -> None:
    app = _named(review)
    browser.answer = np.full((4, 4), 9, np.uint8)
    app.run()
    assert "the corrected map holds id 9, but there are 4 classes" in _texts(app)
    assert _log(run) == []


@pytest.mark.parametrize("name", ["../../evil", "a/b\\c:d", "山田", "O'Hara <b>"])
def test_odd_names_stay_in_the_folder(review: Review, run: Path, browser: Browser, name: str) -> None:
    app = _named(review, name)
    browser.answer = np.zeros((4, 4), np.uint8)
    app.run()
    (saved,), _ = find_corrections(corrections_folder(run), FIRST)
    assert saved.correction.author == name
    assert saved.path.parent == corrections_folder(run) / FIRST
    np.testing.assert_array_equal(read_correction(saved.path, CLASSES), np.zeros((4, 4)))


def test_the_log_can_lie_elsewhere(review: Review, run: Path, browser: Browser, tmp_path: Path) -> None:
    elsewhere = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    app = review("correct", "--log", elsewhere)
    app.text_input[0].set_value("Anna").run()
    _button(app, "Accept").click().run()
    assert [entry.run for entry in read_entries(log_of(run, elsewhere))] == [NAMED]
    assert not (run / "review").exists()


def test_without_a_model_or_with_other_classes_the_command_is_named(
    review: Review, run: Path, browser: Browser
) -> None:
    path = run / "interpreter" / "bundle" / "state.json"
    path.write_text(path.read_text().replace("debris", "mucus"))
    assert "cytoseg evaluate RECIPE" in review("correct").info[0].value
    path.unlink()
    assert "cytoseg train-interpreter RECIPE" in review("correct").info[0].value


def test_ids_go_to_the_browser_and_back_as_runs() -> None:
    editor = importlib.import_module("editor")
    ids = np.array([[0, 0, 7], [7, 255, 0]], np.uint8)
    assert editor.packed(ids) == [0, 2, 7, 2, 255, 1, 0, 1]
    np.testing.assert_array_equal(editor.unpacked(editor.packed(ids), 2, 3), ids)


@pytest.mark.parametrize("runs", [None, "0,6", [0], [0, 5], [0, 7], [0, 6.0], [0, -1, 0, 7], [True, 6], []])
def test_runs_that_do_not_fill_the_map_are_refused(runs: object) -> None:
    with pytest.raises(CytosegError, match="has sent no label map of this crop"):
        importlib.import_module("editor").unpacked(runs, 2, 3)


@pytest.mark.parametrize("number", [-1, 256])
def test_ids_that_are_no_byte_are_refused(number: int) -> None:
    with pytest.raises(CytosegError, match="a class that does not exist"):
        importlib.import_module("editor").unpacked([number, 6], 2, 3)


@pytest.mark.parametrize(("begin", "said"), [("Annotation", "annotation"), ("Prediction", "prediction")])
def test_what_a_correction_began_from_is_kept_through_later_ones(
    review: Review, run: Path, browser: Browser, begin: str, said: str
) -> None:
    app = _named(review)
    assert app.segmented_control[0].value == "Annotation"
    app.segmented_control[0].set_value(begin).run()
    painted = np.ones((4, 4), np.uint8)
    for number in (1, 2):
        browser.answer = painted * np.uint8(number)
        app.run()
    saved, problems = find_corrections(corrections_folder(run), FIRST)
    assert problems == []
    again = "correction of a prediction" if begin == "Prediction" else "correction"
    assert [found.correction.started_from for found in saved] == [said, again]
