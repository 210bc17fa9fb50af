"""A small run with regions to queue and two evaluations."""

import json
import shutil
from pathlib import Path

import numpy as np

from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.slides.fingerprint import slide_stamp
from tests.predict.made import four_classes, predicted

NAME = "queued"
SLIDE = "smear_E"
_SIDE_PX, _CROP_PX = 512, 128
_CLASSES = ("background", "cytoplasm", "nucleus", "debris")


def add_queued_run(base: Path, evaluated: Path) -> None:
    """Make base/runs/queued and its slide, base/smears/smear_E.png.

    Args:
        base: Where the review is started.
        evaluated: A run with an evaluation, which is taken over; the earlier one had a mean IoU lower by 0.1.
    """
    run = base / "runs" / NAME
    shutil.copytree(evaluated / "evaluation", run / "evaluation")
    (base / "queued.yaml").write_text(four_classes(NAME, "smears", size_px=_CROP_PX), encoding="utf-8")
    (run / "recipe.yaml").write_text(dump_recipe(load_recipe(str(base / "queued.yaml"))), encoding="utf-8")
    record = json.loads((run / "evaluation" / "evaluation.json").read_text())
    record["created"] = "2026-01-01T00:00:00+00:00"
    record["methods"][0]["miou"] -= 0.1
    (run / "history").mkdir()
    (run / "history" / "20260101.json").write_text(json.dumps(record))
    _predict(run, base / "smears" / f"{SLIDE}.png")


def _predict(run: Path, slide: Path) -> None:
    """Write a slide and its maps; the model doubts in the upper left part of every second square of a crop's size."""
    generator = np.random.default_rng(0)
    row, column = np.indices((_SIDE_PX, _SIDE_PX))
    doubted = ((row // _CROP_PX + column // _CROP_PX) % 2 == 0) & (row % _CROP_PX < 60) & (column % _CROP_PX < 60)
    picture = generator.integers(0, 256, (_SIDE_PX, _SIDE_PX, 3), np.uint8)
    ids = ((row // 40 + column // 40) % len(_CLASSES)).astype(np.uint8)
    nats = (0.6 * doubted).astype(np.float32)
    folder = predicted(run / "predictions", slide, picture=picture, ids=ids, nats=nats, classes=_CLASSES)
    length, changed = slide_stamp(slide)
    summary = json.loads((folder / "summary.json").read_text())
    summary["provenance"] = {"slide_bytes": length, "slide_changed": changed}
    (folder / "summary.json").write_text(json.dumps(summary))
