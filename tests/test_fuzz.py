"""Files that were mutated at random are read, or refused in one printable line.

CYTOSEG_FUZZ sets how many of each, CYTOSEG_FUZZ_FIRST the first seed.
"""

import contextlib
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cytoseg.anomaly.regions import read_list
from cytoseg.anomaly.thresholds import Thresholds, read_counts, read_thresholds
from cytoseg.checkpoints import load_state
from cytoseg.diffusion.sample_folder import SampleOrigin, open_folder
from cytoseg.errors import CytosegError
from cytoseg.evaluation.history import read_snapshot
from cytoseg.evaluation.run_folder import read_classes, read_provenance, read_summary
from cytoseg.evaluation.sample_scores import SampleScores, read_sample_scores
from cytoseg.formats.sidecar import read_sidecar
from cytoseg.labels.corrections import find_corrections
from cytoseg.labels.index import load_index
from cytoseg.labels.original_annotation import read_original
from cytoseg.labels.queue_file import read_queue
from cytoseg.predict.sign_off_file import bundle_of
from cytoseg.predict.summary import summary_of
from cytoseg.recipe.file import load_recipe
from cytoseg.running import running_in
from cytoseg.runs import read_metrics

if sys.platform != "win32":
    import resource

ROUNDS = int(os.environ.get("CYTOSEG_FUZZ", "25"))
_FIRST = int(os.environ.get("CYTOSEG_FUZZ_FIRST", "0"))
NUMBERS = range(_FIRST, _FIRST + ROUNDS)
"""Each number is a seed."""
ODD: list[Any] = [
    None,
    True,
    -1,
    10**30,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "x" * 3000,
    "\u202e\x1b[31m\0",
    [],
    {},
    [[1]],
]

COMMAND = {"command": "evaluate", "started": "2026-01-01", "seconds": 3.5, "seed": 1, "versions": {"torch": "2"}}
CROP = {
    "crop": "a",
    "slide": "s",
    "width": 4,
    "height": 4,
    "source": "a.json",
    "image_sha256": "0",
    "label_sha256": "0",
}
ITEM = {
    "slide": "s",
    "region": [0, 0, 4, 4],
    "state": "queued",
    "crop": "a",
    "reason": "r",
    "score": 0.5,
    "looks": [1.0],
}
SCORES = dict.fromkeys(("iou", "iou_low", "iou_high", "dice", "precision", "recall"), 0.5) | {"name": "a", "pixels": 3}
POOLED = {"classes": [SCORES], "miou": 0.5, "miou_low": None, "miou_high": None}
OBJECTS = dict.fromkeys(("truth", "predicted", "matched", "precision", "recall", "f1", "aji", "pq", "sq", "rq"), 1)
METHOD = {
    **POOLED,
    "key": "ensemble",
    "title": "t",
    "seconds": {"train": None, "predict": 0.5},
    "confusion": [[3]],
    "calibration": {"ece": 0.1, "classes": [0.1], "bins": [{"pixels": 3, "confidence": 0.5, "right": None}]},
    "objects": {"a": OBJECTS},
    "slides": [{"slide": "s", "crops": 1, "miou": 0.5, "iou": [0.5]}],
    "stains": [{**POOLED, "stain": "x", "slides": 1}],
}
EVALUATION = {
    "format": 1,
    "created": "2026-01-01",
    "recipe": "t",
    "classes": [{"name": "a", "colour": [1, 2, 3]}],
    "train_crops": 1,
    "test_crops": 1,
    "test_slides": 1,
    "methods": [METHOD],
    "crops": [{"crop": "a", "slide": "s", "miou": 0.5, "iou": [None], "disagreement": 0.1, "folder": "crops/a"}],
    "bundle": {"labels": {"a": "0"}, "features": [["x"], {"taps": ["x"]}]},
    "test_labels": {"a": "0"},
}
SUMMARY = {
    "slide": "s",
    "slide_path": "s.tif",
    "mpp": 0.5,
    "files": ["preview.png"],
    "classes": {"a": {"pixels": 3, "share": 0.1}},
    "objects": {"a": {"objects": 1, "sheets": 2}},
    "provenance": {"bundle": {"sha256": {"ensemble": "0"}}},
    "versions": {"torch": "2"},
}
BUNDLE = {"classes": {"names": ["a", "b"], "colours": [[1, 2, 3], [4, 5, 6]], "fill": "a"}}
MARKER = {"command": "predict", "recipe": "t", "started": "2026-01-01", "host": platform.node(), "pid": 1}
ORIGINAL = {
    "origin": {"slide": "s", "region": [0, 0, 4, 4]},
    "labelme": {"version": "5", "shapes": []},
    "features": [{"type": "Feature"}],
    "area": [0, 0, 4, 4],
    "frame": 0,
}
CORRECTION = {
    "cytoseg": {
        "slide": "s",
        "correction": {
            "crop": "a",
            "author": "Ben",
            "time": "2026-03-01T14:05:06.000000+00:00",
            "started_from": "prediction",
        },
    }
}
REGION = {"region": [0, 0, 4, 4], "texture": 1.5, "shape": 2.0, "label": "a", "picture": "01.png"}
THRESHOLDS = {
    "classes": ["a", "b"],
    "thresholds": {"texture": [0.5, 2.0], "shape": [1.0, 4.0]},
    "slides": [{"path": "n.tif", "pixels": 100}],
    "model": {"backbone": "abc"},
}
COUNTS = {"texture": [[[3, 5], [900, 7]], []], "shape": [[[1, 1]], [[2, 2]]]}
ORIGIN = SampleOrigin("ddim", 5, 0, 32, 100, "abc", guide=1, scale=2.0)
MEAN_SD = {"fid": [1.0, 0.1], "copies": [0.0, 0.0]}
SAMPLE_SCORES = {
    **{"count": 8, "draws": 1, "network": {"name": "filters", "hash": "ab"}, "real": "r"},
    **{"samples": MEAN_SD, "floor": MEAN_SD, "searched": 5, "seen": 6},
}
READERS: dict[str, tuple[str, Any, Callable[[Path], object]]] = {
    "regions": (
        "regions.json",
        {"format": 1, "slide_path": "s.tif", "regions": [REGION], "areas": {"texture": 0.1}, "mpp": 0.5},
        lambda folder: [(region.score, region.kind) for region in read_list(folder).regions],
    ),
    "thresholds": ("thresholds.json", {"format": 1, **THRESHOLDS}, lambda folder: _ratio(read_thresholds(folder))),
    "counts": ("counts.json", {"format": 1, "counts": COUNTS}, lambda folder: read_counts(folder, classes=2)),
    "samples": ("samples.json", {"format": 1, **asdict(ORIGIN)}, lambda folder: open_folder(folder, ORIGIN)),
    "sample scores": (
        "samples/scores.json",
        {"format": 1, **SAMPLE_SCORES},
        lambda folder: _shown(read_sample_scores(folder)),
    ),
    "run": ("run.json", {"format": 1, "recipe": "t", "commands": [COMMAND]}, read_provenance),
    "summary": ("summary.json", SUMMARY, read_summary),
    "index": (
        "index.json",
        {"format": 1, "classes": ["a"], "crops": [{**CROP, "pixels": {"a": 3}, "ignored": 0}]},
        load_index,
    ),
    "queue": ("queue.json", {"format": 1, "items": [ITEM], "rounds": []}, read_queue),
    "sidecar": ("a.crop.json", {"slide": "s", "region": [0, 0, 4, 4]}, lambda folder: read_sidecar(folder / "a.png")),
    "state": ("state.json", {"format": 1, "sha256": {"model": "0"}}, load_state),
    "metrics": ("metrics.jsonl", {"crops_seen": 3, "loss": 0.5}, lambda folder: read_metrics(folder / "metrics.jsonl")),
    "bundle": ("interpreter/bundle/state.json", BUNDLE, read_classes),
    "running": (f".running-{os.getpid()}.json", MARKER, running_in),
    "original": ("shapes/a.json", ORIGINAL, lambda folder: read_original(folder, "a")),
    "correction": ("a/Ben.json", CORRECTION, lambda folder: find_corrections(folder, "a")),
    "summary for programs": ("summary.json", SUMMARY, lambda folder: (summary_of(folder), bundle_of(folder))),
    "evaluation": ("evaluation.json", EVALUATION, lambda folder: read_snapshot(folder / "evaluation.json")),
    "recipe": (
        "r.yaml",
        {"name": "t", "slides": {"mpp": 0.5}, "classes": [{"name": n, "colour": f"#{n * 6}"} for n in "ab"]},
        lambda folder: load_recipe(str(folder / "r.yaml")),
    ),
}


def _ratio(found: Thresholds | None) -> object:
    return found and found.ratio(np.ones((3, 3), np.float32), np.zeros((3, 3), np.uint8), "texture")


def _shown(found: SampleScores | None) -> object:
    return found and (found.rows(), found.sentence())


def mutated(value: Any, draw: random.Random) -> Any:
    """Change one part of what JSON can hold, somewhere."""
    if isinstance(value, dict | list) and value and draw.random() < 0.8:
        place = draw.choice(list(value) if isinstance(value, dict) else range(len(value)))
        copied = value.copy()
        copied[place] = mutated(value[place], draw)
        return copied
    return draw.choice(ODD)


def damaged(text: bytes, draw: random.Random) -> bytes:
    """Cut, flip or nest."""
    place = draw.randrange(len(text))
    kinds = [text[:place], text[:place] + bytes([draw.randrange(256)]) + text[place + 1 :], text[:place] + b"[" * 3000]
    return draw.choice([*kinds, text, text, b"\xef\xbb\xbf" + text, text[:place] + b"9" * 6000 + text[place:]])


@pytest.mark.parametrize("name", READERS)
def test_a_mutated_file_is_read_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    file, valid, read = READERS[name]
    for number in NUMBERS:
        draw = random.Random(f"{name} {number}")
        content = damaged(json.dumps(mutated(valid, draw)).encode(), draw)
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
        message = refusal(read, tmp_path)
        assert message.isprintable(), number
        assert len(message) < 490, number


@pytest.mark.parametrize("name", READERS)
def test_what_is_mutated_is_read_whole(tmp_path: Path, name: str) -> None:
    file, valid, read = READERS[name]
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(json.dumps(valid))
    assert refusal(read, tmp_path) == ""


def refusal(read: Callable[[Path], object], folder: Path) -> str:
    """Give the message of a refusal, or nothing."""
    with within_limits():
        try:
            read(folder)
        except CytosegError as error:
            return str(error)
    return ""


def check(read: Callable[[], object], number: int) -> None:
    """Check that something is read, or refused in one line."""
    message = ""
    with within_limits():
        try:
            read()
        except CytosegError as error:
            message = str(error)
    assert message.isprintable(), number
    assert len(message) < 490, number


@contextlib.contextmanager
def within_limits() -> Iterator[None]:
    """Check that what is done takes at most 5 s of the processor and 1 GB of memory."""
    begin, before = time.process_time(), _peak_mb()
    yield
    assert time.process_time() - begin < 5
    assert _peak_mb() - before < 1000


def _peak_mb() -> float:
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1024**2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if platform.system() == "Linux" else peak / 1024**2
