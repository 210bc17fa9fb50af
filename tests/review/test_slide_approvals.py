"""Sign-offs of slides: added, read, the latest, and never changed."""

import csv
import sqlite3
from io import StringIO
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from cytoseg.errors import LabelError
from cytoseg.predict.sign_off_file import is_outdated
from cytoseg.review.append_only import log_of
from cytoseg.review.review_log import Judgement, add_entry, read_entries
from cytoseg.review.slide_approvals import (
    SignOff,
    latest,
    read_sign_offs,
    sign_off,
    sign_off_csv,
)

ANNA = SignOff("Anna Øster", "lbc", "036", "approved", "all\nof it", "ab" * 32)
BEN = SignOff("Ben", "lbc", "036", "needs labels")


def test_the_latest_sign_off_of_a_slide_counts_and_all_are_kept(tmp_path: Path) -> None:
    log = log_of(tmp_path, None)
    assert read_sign_offs(log) == []
    assert list(tmp_path.iterdir()) == []
    for said in (ANNA, BEN, SignOff("Ben", "other", "051", "rejected")):
        sign_off(log, said)
    first, second = read_sign_offs(log, run="lbc")
    assert {**vars(first), "id": 0, "time": ""} == {**vars(ANNA), "id": 0, "time": ""}
    assert first.time <= second.time
    assert {slide: entry.verdict for slide, entry in latest(read_sign_offs(log)).items()} == {
        "036": "needs labels",
        "051": "rejected",
    }


def test_the_reviewers_log_lies_in_the_same_file(tmp_path: Path) -> None:
    log = log_of(tmp_path, None)
    add_entry(log, Judgement("Ben", "lbc", "051_0_0", "051", "accepted"))
    assert read_sign_offs(log) == []
    sign_off(log, ANNA)
    assert len(read_entries(log)) == len(read_sign_offs(log)) == 1


@pytest.mark.parametrize("change", ["UPDATE slide_approvals SET verdict = 'approved'", "DELETE FROM slide_approvals"])
def test_a_sign_off_cannot_be_changed(tmp_path: Path, change: str) -> None:
    sign_off(log_of(tmp_path, None), BEN)
    connection = sqlite3.connect(tmp_path / "review" / "log.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="cannot be changed"):
        connection.execute(change)
    connection.close()


def test_other_verdicts_and_damage_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        sign_off(log_of(tmp_path, None), SignOff("Ben", "lbc", "036", "perhaps"))  # type: ignore[arg-type] # the point
    (tmp_path / "review" / "log.sqlite").write_bytes(b"no table" * 500)
    with pytest.raises(LabelError, match="is damaged"):
        read_sign_offs(log_of(tmp_path, None))


def test_a_table_says_whether_the_prediction_is_still_the_same(tmp_path: Path) -> None:
    log = log_of(tmp_path, None)
    for said in (ANNA, BEN):
        sign_off(log, said)
    entries = read_sign_offs(log)
    assert [is_outdated(entry.bundle, "ab" * 32) for entry in entries] == [False, True]
    rows = list(csv.DictReader(StringIO(sign_off_csv(entries, {"036": "ab" * 32}))))
    assert [(row["author"], row["verdict"], row["of this prediction"]) for row in rows] == [
        ("Anna Øster", "approved", "yes"),
        ("Ben", "needs labels", "no"),
    ]


def test_a_folder_that_may_not_be_entered_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refused)
    with pytest.raises(LabelError, match=r"the review log log\.sqlite cannot be read \(Permission denied\)"):
        read_sign_offs(log_of(tmp_path, None))
