"""Two people: test crops that were corrected or judged differently, and a third person's decisions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from cytoseg.formats.sidecar import Origin
from cytoseg.labels.corrections import (
    Correction,
    corrections_folder,
    find_corrections,
    read_correction,
    save_correction,
)
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.review.append_only import log_of
from cytoseg.review.judgement_conflicts import read_judgement_resolutions
from cytoseg.review.resolutions import read_resolutions
from cytoseg.review.review_log import Action, Judgement, add_entry, read_entries
from tests.apps.test_annotate import RECIPE, _press, _texts

Review = Callable[..., AppTest]
CROP = "smear_A_0_512"
CLASSES = """\
classes:
  - {name: background, colour: "#e6e6e6"}
  - {name: cytoplasm, colour: "#56b4e9"}
  - {name: nucleus, colour: "#d55e00"}
  - {name: debris, colour: "#009e73"}
fill: background
"""


@pytest.fixture
def run(made_run: Path, tmp_path: Path) -> Path:
    """A run with an evaluation and a whole recipe, and no crop to annotate; Anna and Bo do not agree on a test crop."""
    recipe = tmp_path / "whole.yaml"
    recipe.write_text(RECIPE[: RECIPE.index("classes:")].replace("sighted", "quickstart") + CLASSES)
    (tmp_path / "slides").mkdir()
    (made_run / "recipe.yaml").write_text(dump_recipe(load_recipe(str(recipe))))
    for author, ids in (("Anna", 1), ("Bo", 2)):
        _correct(made_run, author, ids)
    judgements: tuple[tuple[str, Action], ...] = (("Anna", "accepted"), ("Bo", "rejected"), ("Dora", "accepted"))
    for author, action in judgements:
        add_entry(log_of(made_run, None), Judgement(author, "quickstart", CROP, "smear_A", action, "as seen"))
    return made_run


def _correct(run: Path, author: str, class_id: int) -> None:
    """Correct the crop: the right half is of a class, the left half is cytoplasm."""
    ids = np.ones((4, 4), np.uint8)
    ids[:, 2:] = class_id
    save_correction(
        corrections_folder(run),
        Correction(CROP, author, f"2026-03-0{class_id}T00:00:00.000000+00:00", "annotation"),
        origin=Origin("smear_A", None),
        picture=np.full((4, 4, 3), 100, np.uint8),
        label_map=ids,
        classes=load_recipe(str(run / "recipe.yaml")).class_list(),
    )


def _opened(review: Review, run: Path, tmp_path: Path, name: str) -> AppTest:
    app = review("two_people", "--run", str(run), "--base", str(tmp_path))
    assert not app.exception, app.exception
    return app.text_input(key="reviewer box").input(name).run()


def _offered(app: AppTest) -> dict[str, bool]:
    return {button.label.replace("\\", ""): not button.disabled for button in app.main.button}


def test_both_conflicts_are_shown_and_their_people_may_not_decide(review: Review, run: Path, tmp_path: Path) -> None:
    app = _opened(review, run, tmp_path, "bo")
    assert [one.value for one in app.subheader if "test" in one.value or "Accepted" in one.value] == [
        "Corrected test crops in conflict (1)",
        "Accepted and rejected (1)",
    ]
    tables = [table.value for table in app.dataframe]
    assert tables[0][["Crop", "Slide", "People", "Differ", "Pixels marked by both"]].to_numpy().tolist() == [
        [CROP, "smear_A", "Anna, Bo", "50.0%", 16]
    ]
    assert tables[2][["Who", "What", "Comment"]].to_numpy().tolist() == [
        ["Anna", "accepted", "as seen"],
        ["Dora", "accepted", "as seen"],
        ["Bo", "rejected", "as seen"],
    ]
    assert tables[3][["People", "Crops", "Same verdict"]].to_numpy().tolist() == [
        ["Anna, Bo", 1, "0.0 %"],
        ["Anna, Dora", 1, "100.0 %"],
        ["Bo, Dora", 1, "0.0 %"],
    ]
    assert not any(_offered(app)[label] for label in ("Take Anna's", "Take Bo's", "Accept", "Reject"))
    assert "You have judged this crop." in _texts(app)


def test_a_third_person_takes_a_correction_and_nothing_is_lost(review: Review, run: Path, tmp_path: Path) -> None:
    app = _press(_opened(review, run, tmp_path, "Cem"), "Take Bo's")
    assert f"{CROP}: resolved by Cem. The newest correction is this one now; import it to use it." in _texts(app)
    found, problems = find_corrections(corrections_folder(run), CROP)
    assert problems == []
    assert [(one.correction.author, one.correction.started_from) for one in found] == [
        ("Anna", "annotation"),
        ("Bo", "annotation"),
        ("Cem", "resolution"),
    ]
    newest = read_correction(found[-1].path, load_recipe(str(run / "recipe.yaml")).class_list())
    np.testing.assert_array_equal(newest, [[1, 1, 2, 2]] * 4)
    (said,) = read_resolutions(log_of(run, None))
    assert (said.author, said.crop, said.choice) == ("Cem", CROP, "second")
    assert "No two people have corrected a test crop differently." in _texts(app)


@pytest.mark.slow
def test_drawing_on_opens_the_decision_on_the_page_correct(review: Review, run: Path, tmp_path: Path) -> None:
    app = _press(_opened(review, run, tmp_path, "Cem"), "Draw from Anna's")
    assert app.title[0].value == "Correct"
    assert app.main.selectbox[0].value == CROP
    assert app.segmented_control[0].value == "Latest correction"
    assert "By Cem, " in _texts(app)


@pytest.mark.slow
def test_a_third_person_settles_a_verdict_and_the_log_stays(review: Review, run: Path, tmp_path: Path) -> None:
    before = read_entries(log_of(run, None))
    app = _opened(review, run, tmp_path, "Cem")
    app = _press(app, "Reject")
    assert f"{CROP}: rejected, decided by Cem." in _texts(app)
    (said,) = read_judgement_resolutions(log_of(run, None))
    assert (said.author, said.verdict, said.accepted_by, said.rejected_by) == ("Cem", "rejected", "Anna, Dora", "Bo")
    assert read_entries(log_of(run, None)) == before
    assert "No test crop is accepted by one person and rejected by another." in _texts(app)
    assert ["Cem", CROP, "rejected"] in [
        row[1:4] for table in app.dataframe if "Decision" in table.value for row in table.value.to_numpy().tolist()
    ]


def test_what_was_decided_meanwhile_is_said(review: Review, run: Path, tmp_path: Path) -> None:
    app = _opened(review, run, tmp_path, "Cem")
    _correct(run, "Anna", 3)
    add_entry(log_of(run, None), Judgement("Bo", "quickstart", CROP, "smear_A", "accepted"))
    assert "the marks have changed since you opened it" in _texts(_press(app, "Take Bo's"))
    app = _opened(review, run, tmp_path, "Cem")
    assert "Accept" not in _offered(app)
    assert read_resolutions(log_of(run, None)) == []


@pytest.mark.slow
def test_a_damaged_picture_of_a_judged_crop_is_a_sentence(review: Review, run: Path, tmp_path: Path) -> None:
    Image.new("L", (3, 3)).save(run / "evaluation" / "crops" / CROP / "prediction.png")
    app = _opened(review, run, tmp_path, "Cem")
    assert not app.exception
    assert "prediction.png differs in size from image.png" in _texts(app)
