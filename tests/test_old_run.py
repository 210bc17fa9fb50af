"""A run folder of version 0.1.0 is still readable; see ``tests/old_run/README.md``."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cytoseg.checkpoints import load_state
from cytoseg.evaluation.history import compare_snapshots, read_snapshot, snapshot_files
from cytoseg.evaluation.results_file import read_evaluation
from cytoseg.evaluation.run_folder import read_classes, read_provenance, read_summary
from cytoseg.formats.sidecar import Origin, read_sidecar
from cytoseg.geometry import Region
from cytoseg.interpreter.bundle import bundle_state
from cytoseg.labels.index import load_index
from cytoseg.labels.original_annotation import read_original
from cytoseg.labels.proposal_file import is_saved
from cytoseg.labels.queue_file import read_queue
from cytoseg.predict.outputs import is_done, left_out_of
from cytoseg.predict.sign_off_file import bundle_of
from cytoseg.predict.summary import classes_of, summary_of
from cytoseg.recipe import recipe_of_run
from cytoseg.runs import read_metrics

RUN = Path(__file__).parent / "old_run" / "run"
PREDICTED = RUN / "predictions" / "made_0_00"
CLASSES = ("background", "cytoplasm", "nucleus")


def test_commands() -> None:
    found = read_provenance(RUN)
    assert found is not None
    assert found.recipe == "old"
    assert [entry.command for entry in found.commands][:4] == [
        "train-ddpm",
        "label-import",
        "train-interpreter",
        "evaluate",
    ]
    assert (found.commands[0].seconds, found.commands[0].seed, found.commands[0].outcome) == (108.77, 0, "finished")
    assert found.commands[0].versions["cytoseg"] == "0.1.0"
    assert (found.commands[-1].command, found.commands[-1].outcome_text) == ("sample", "failed")


def test_evaluations_over_time() -> None:
    found = read_evaluation(RUN)
    assert found is not None
    assert (found.class_names, found.train_crops, found.test_crops, found.test_slides) == (CLASSES, 4, 4, 2)
    after, before = (read_snapshot(path) for path in snapshot_files(RUN))
    assert (len(before.evaluation.methods), len(after.evaluation.methods)) == (3, 2)
    assert (before.train_labels, before.test_labels) == (after.train_labels, after.test_labels)
    assert len(before.train_labels) == len(before.test_labels) == 4
    changed = compare_snapshots(before, after)
    assert [row for row in changed.settings if row[0] == "interpreter, steps"] == [("interpreter, steps", "20", "24")]
    assert changed.mean.before.text() == "0.38 (0.16-0.65)"


def test_labels() -> None:
    index = load_index(RUN / "labels")
    assert (index.classes, len(index.crops)) == (CLASSES, 8)
    crop = index.crops[4]
    assert (crop.crop, crop.slide, crop.width, crop.from_prediction) == ("made_0_02_526_13", "made_0_02", 256, False)
    assert sum(crop.pixels.values()) + crop.ignored == 256 * 256
    kept = read_original(RUN / "labels", crop.crop)
    assert kept.origin == Origin("made_0_02", Region(526, 13, 256, 256))


def test_queue() -> None:
    found = read_queue(RUN / "queue")
    assert [(item.slide, item.region, item.state) for item in found.items] == [
        ("made_0_00", Region(320, 320, 64, 64), "queued"),
        ("made_0_01", Region(736, 0, 64, 64), "queued"),
    ]
    (only,) = found.rounds
    assert (only.when, only.regions, only.before and only.before.train_crops) == ("2026-11-29", 2, 4)
    assert read_sidecar(RUN / "queue" / "made_0_01_736_0.png") == Origin("made_0_01", Region(736, 0, 64, 64))
    assert is_saved(RUN / "queue" / "made_0_01_736_0.json") is False


def test_prediction() -> None:
    found = read_summary(PREDICTED)
    assert found is not None
    assert found.classes[2] == ("nucleus", "7,889", "1.23 %", "0.001972")
    assert ("mean disagreement", "0.03651") in found.facts
    assert classes_of(PREDICTED) == list(CLASSES)
    assert (summary_of(PREDICTED).note, left_out_of(PREDICTED, least_px=16)) == ("", "176 areas of fewer than 16 px")
    assert len(bundle_of(PREDICTED)) == 64
    assert not is_done(PREDICTED, {})


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (lambda: read_classes(RUN).names, CLASSES),  # type: ignore[union-attr] # None fails
        (lambda: bundle_state(RUN / "interpreter" / "bundle")["vote"], "soft"),
        (lambda: load_state(RUN / "ddpm" / "checkpoint-000000032")["crops_seen"], 32),
        (lambda: read_metrics(RUN / "ddpm" / "metrics.jsonl")[-1]["crops_seen"], 32),
        (lambda: recipe_of_run(RUN).class_list().names, CLASSES),
    ],
)
def test_states_logs_and_recipe(read: Callable[[], object], what: object) -> None:
    assert read() == what
