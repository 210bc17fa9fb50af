import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cytoseg.errors import CytosegError
from cytoseg.evaluation.history import (
    Snapshot,
    compare_snapshots,
    earlier_kept,
    read_snapshot,
    snapshot_files,
)
from tests.shut import shut

MADE = Path(__file__).parents[1] / "apps" / "made_run" / "evaluation" / "evaluation.json"
Record = dict[str, Any]
Write = Callable[..., Snapshot]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with the made evaluation."""
    (tmp_path / "evaluation").mkdir()
    shutil.copy(MADE, tmp_path / "evaluation")
    return tmp_path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Change the made evaluation, and read it as a snapshot."""

    def make(change: Callable[[Record], None] = lambda _: None, **bundle: object) -> Snapshot:
        record = json.loads(MADE.read_text())
        record["bundle"], record["test_labels"] = bundle, {"t1": "aa", "t2": "bb"}
        change(record)
        path = tmp_path / "evaluation.json"
        path.write_text(json.dumps(record))
        return read_snapshot(path)

    return make


def test_the_same_evaluation_has_not_changed(write: Write) -> None:
    pictures = {"a": ["slide", "2"]}  # those of before were not kept with the bundle
    same = compare_snapshots(write(labels={"a": "1"}, seed=0), write(labels={"a": "1"}, pictures=pictures, seed=0))
    assert {change.difference for change in (same.mean, *same.classes, *same.slides)} <= {0.0, None}
    assert (same.train_labels.text(), same.test_labels.text(), same.settings) == ("the same", "the same", ())
    assert not same.train_labels
    mean = same.mean.before.text()[:4]
    assert same.sentences()[0] == f"Mean IoU stayed at {mean}."
    assert same.sentences()[-2:] == ["Training crops: the same.", "No setting differs."]


def test_labels_and_settings_that_differ_are_named(write: Write) -> None:
    features: list[object] = [["block3"], [50], {"taps": ["block3"], "timesteps": [50]}]
    before = write(labels={"a": "1", "b": "2", "c": "3"}, seed=0, interpreter={"steps": 600}, train_seconds=3.0)
    after = write(labels={"a": "1", "b": "9", "d": "4"}, seed=1, interpreter={"steps": 600}, features=features)
    found = compare_snapshots(before, after)
    assert (found.train_labels.added, found.train_labels.removed, found.train_labels.changed) == (
        ("d",),
        ("c",),
        ("b",),
    )
    assert found.train_labels.text() == "1 added, 1 removed, 1 relabelled"
    assert found.settings == (("seed", "0", "1"), ("features, taps", "-", "block3"), ("features, timesteps", "-", "50"))
    assert found.sentences()[-1] == "Settings that differ: 3."


def test_data_and_results_of_the_training_are_no_settings(write: Write) -> None:
    before = write(pixels=4000, kept_steps=[50, 100], calibration={"temperature": 1.1}, made={"made_1": ["a", "b"]})
    after = write(pixels=6000, kept_steps=None, calibration=None, made={"made_1": ["c", "d"]})
    assert compare_snapshots(before, after).settings == ()


def test_scores_are_matched_by_the_names_of_classes_and_slides(write: Write) -> None:
    def change(record: Record) -> None:
        method = record["methods"][0]
        method["miou"], method["miou_low"], method["miou_high"] = 0.9, 0.8, 0.95
        method["classes"][0]["name"] = record["classes"][0]["name"] = "renamed"
        method["classes"][1]["iou"] = 0.5
        method["slides"] = [
            {"slide": "smear_A", "crops": 1, "miou": 0.9, "iou": [None] * 4},
            {"slide": "new", "crops": 1, "miou": 0.1, "iou": [None] * 4},
        ]
        record["test_labels"] = {"t1": "aa", "t3": "cc"}

    before, after = write(), write(change)
    old = before.evaluation.methods[0]
    old_slides = {slide.slide: slide.miou for slide in old.slides}
    found = compare_snapshots(before, after)
    assert found.mean.difference == pytest.approx(0.9 - (old.miou.value or 0))
    assert [change.name for change in found.classes] == [scores.name for scores in old.classes[1:]]
    assert found.classes[0].difference == pytest.approx(0.5 - (old.classes[1].iou.value or 0))
    assert [(s.name, s.before.value, s.after.value) for s in found.slides] == [("smear_A", old_slides["smear_A"], 0.9)]
    said = found.sentences()
    assert said[0].startswith("Mean IoU rose from ")
    assert said[0].endswith(" to 0.90.")
    assert said[1] == "Of 1 slides tested both times, 1 got better and 0 worse."
    assert said[2] == (
        "The test crops are not the same (1 added, 1 removed): part of the change is due to the different test crops."
    )


def test_a_score_that_does_not_apply_has_no_difference(write: Write) -> None:
    def change(record: Record) -> None:
        for key in ("miou", "miou_low", "miou_high"):
            record["methods"][0][key] = None

    found = compare_snapshots(write(), write(change))
    assert found.mean.difference is None
    assert found.sentences()[0] == "Mean IoU cannot be compared."


def test_an_evaluation_without_methods_is_refused(write: Write) -> None:
    with pytest.raises(CytosegError, match="holds no method"):
        compare_snapshots(write(), write(lambda record: record["methods"].clear()))


def test_the_evaluation_of_before_is_kept_when_another_took_its_place(run: Path) -> None:
    path = run / "evaluation" / "evaluation.json"
    record, content = json.loads(path.read_text()), path.read_bytes()
    for year in (2098, 2099):
        with earlier_kept(run):
            path.write_text(json.dumps({**record, "created": f"{year}-01-02T03:04:05+00:00"}))
    latest, *earlier = snapshot_files(run)
    assert latest == path
    first = record["created"].replace(":", "")
    assert [file.name for file in earlier] == ["2098-01-02T030405+0000.json", f"{first}.json"]
    assert earlier[1].read_bytes() == content
    assert read_snapshot(earlier[0]).evaluation.created == "2098-01-02T03:04:05+00:00"


def test_an_evaluation_stays_in_the_history_whatever_its_time_says(run: Path, tmp_path: Path) -> None:
    path = run / "evaluation" / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "created": "../../out/x" + "y" * 300}))
    before = path.read_bytes()
    with earlier_kept(run):
        pass
    (kept,) = (run / "history").iterdir()
    assert kept.read_bytes() == before
    assert kept.name == ("....outx" + "y" * 300)[:100] + ".json"
    assert snapshot_files(run)[1:] == [kept]


def test_an_interrupted_evaluation_leaves_no_history(run: Path) -> None:
    with pytest.raises(KeyboardInterrupt), earlier_kept(run):
        raise KeyboardInterrupt
    assert [file.name for file in snapshot_files(run)] == ["evaluation.json"]
    assert not (run / "history").exists()


@pytest.mark.parametrize("before", ['{"format": 1', None])
def test_damaged_and_missing_evaluations_are_not_kept(run: Path, before: str | None) -> None:
    path = run / "evaluation" / "evaluation.json"
    content = path.read_text()
    path.unlink() if before is None else path.write_text(before)
    with earlier_kept(run):
        path.write_text(content)
    assert snapshot_files(run) == [path]


def test_a_damaged_evaluation_is_refused(run: Path) -> None:
    path = run / "evaluation" / "evaluation.json"
    path.write_text('{"format": 1')
    with pytest.raises(CytosegError, match="not complete JSON"):
        read_snapshot(path)


def test_a_history_that_may_not_be_read_is_none(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "history").mkdir()
    shutil.copy(run / "evaluation" / "evaluation.json", run / "history" / "2020.json")
    assert len(snapshot_files(run)) == 2
    with monkeypatch.context() as patched:
        shut(patched, run / "history")
        assert snapshot_files(run) == [run / "evaluation" / "evaluation.json"]
    shut(monkeypatch, run / "evaluation")
    assert snapshot_files(run) == [run / "history" / "2020.json"]
