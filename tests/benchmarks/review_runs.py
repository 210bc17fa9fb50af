"""A folder of many synthetic runs, one with thousands of test crops and a slide."""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cytoseg.evaluation.history import earlier_kept
from cytoseg.recipe import dump_recipe, load_recipe
from tests.apps.sighted import make_run

LARGE = "sighted"
"""Name of the run with the crops and the slide."""
DRAWN, SIDE_PX, SLIDE_PX, PER_SLIDE = 24, 256, 4096, 25
_MADE_RUN = Path(__file__).parents[1] / "apps" / "made_run"
Record = dict[str, Any]


def make_runs(base: Path, *, runs: int, crops: int) -> Path:
    """Generate base/runs and base/slides.

    Args:
        base: Folder in which they are created.
        runs: Number of runs; every fourth has an earlier evaluation in its history.
        crops: Number of test crops of the large run, each with its images; some share their files on disk.

    Returns:
        Folder of the large run.
    """
    large = make_run(base, size_px=SLIDE_PX)
    _complete(large, crops)
    record = json.loads((_MADE_RUN / "evaluation" / "evaluation.json").read_text())
    for number in range(1, runs):
        run = base / "runs" / f"lab {number:03d}"
        shutil.copytree(_MADE_RUN, run, ignore=shutil.ignore_patterns("predictions"))
        _evaluate(run, record, number)
        if number % 4 == 0:
            with earlier_kept(run):
                _evaluate(run, record, number + 1)
        os.utime(run / "run.json", (1.7e9 + number, 1.7e9 + number))
    return large


def _evaluate(run: Path, record: Record, number: int) -> None:
    """Write an evaluation with its own time, whose scores are a little lower than those of the synthetic run."""
    changed = copy.deepcopy(record)
    changed["created"] = f"2026-01-{1 + number // 24 % 28:02d}T{number % 24:02d}:00:00+00:00"
    for method in changed["methods"]:
        method["miou"] -= number / 2000
        for scores in method["slides"]:
            scores["miou"] -= number / 2000
    (run / "evaluation" / "evaluation.json").write_text(json.dumps(changed))


def _complete(run: Path, crops: int) -> None:
    """Add a complete recipe, provenance, classes and an evaluation to the run of the viewer's tests."""
    (run / "recipe.yaml").write_text(dump_recipe(load_recipe(str(run / "recipe.yaml"))))
    shutil.copytree(_MADE_RUN, run, dirs_exist_ok=True, ignore=shutil.ignore_patterns("recipe.yaml", "predictions"))
    drawn = [_draw(run / "evaluation" / "drawn" / str(number), number) for number in range(DRAWN)]
    path = run / "evaluation" / "evaluation.json"
    record = json.loads(path.read_text())
    record["created"] = "2026-06-01T12:00:00+00:00"
    record |= {"crops": [_crop(number) for number in range(crops)], "test_crops": crops}
    with earlier_kept(run):
        path.write_text(json.dumps(record))
    for number, crop in enumerate(record["crops"]):
        folder = run / "evaluation" / crop["folder"]
        folder.mkdir(parents=True)
        for part in drawn[number % DRAWN].iterdir():
            os.link(part, folder / part.name)
    for name in ("ddpm/samples", "ddpm/loss", "labels/contact_sheet"):
        (run / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(drawn[0] / "image.png", run / f"{name}.png")


def _crop(number: int) -> Record:
    scores = np.random.default_rng(number).uniform(0.3, 1, 3).round(4).tolist()
    slide = f"smear_{number // PER_SLIDE:03d}"
    name = f"{slide}_{number % PER_SLIDE * SIDE_PX}_512"
    mean, disagreement = round(sum(scores) / 3, 4), round(0.6 * (1 - min(scores)), 4)
    numbers = {"miou": mean, "iou": [*scores, None], "disagreement": disagreement}
    return {"crop": name, "slide": slide, **numbers, "folder": f"crops/{name}"}


def _draw(folder: Path, seed: int) -> Path:
    """Draw cells with camera noise, their ground truth, a prediction shifted by 5 px, and the difference of both."""
    random = np.random.default_rng(seed)
    picture, truth = Image.new("RGB", (SIDE_PX, SIDE_PX), (238, 232, 228)), Image.new("L", (SIDE_PX, SIDE_PX))
    on_picture, on_truth = ImageDraw.Draw(picture), ImageDraw.Draw(truth)
    for tint in ((150, 190, 200), (226, 160, 170), (170, 170, 210), (160, 200, 190)):
        x, y = random.integers(40, SIDE_PX - 40, 2).tolist()
        for radius, colour, class_id in ((40, tint, 1), (9, (70, 50, 110), 2)):
            box = (x - radius, y - radius, x + radius, y + radius)
            on_picture.ellipse(box, colour)
            on_truth.ellipse(box, class_id)
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(1.5)), np.float64)
    grain = np.clip(soft + random.normal(0, 3, soft.shape), 0, 255).astype(np.uint8)
    prediction = np.roll(np.asarray(truth), 5, axis=1)
    disputed = Image.fromarray(((np.asarray(truth) != prediction) * 255).astype(np.uint8))
    parts = {"image": Image.fromarray(grain), "truth": truth, "prediction": Image.fromarray(prediction)}
    parts["disagreement"] = disputed.filter(ImageFilter.GaussianBlur(4))
    folder.mkdir(parents=True)
    for name, part in parts.items():
        part.save(folder / f"{name}.png")
    return folder
