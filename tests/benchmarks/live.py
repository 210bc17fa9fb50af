"""Time until a stroke is saved, imported and shown in the prediction, with 5 and 30 labelled crops.

    python -m tests.benchmarks.live --threads 2

Synthetic crops of 256 px, with features of the included base model, with and without the image filters.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import IGNORE
from cytoseg.labels.drawn_marks import drawn_of
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.workflows.annotating import Annotating, CropFile
from cytoseg.workflows.live_results import LiveResults
from tests.benchmarks.machine import Table, describe, write_results

SIDE_PX, STROKES = 256, 6
NOTES = "Target: at most 3 s with 5 labelled crops and 10 s with 30, on two cores."
RECIPE = """\
name: live
slides: {{folders: [slides], mpp: 0.5}}
crops: {{size_px: 64}}
labels: {{crop_px: {side}, test_slides: [none_of_these]}}
training: {{device: cpu{init}}}
{more}classes:
  - {{name: background, colour: "#f0f0f0"}}
  - {{name: cytoplasm, colour: "#56b4e9"}}
  - {{name: nucleus, colour: "#d55e00"}}
fill: background
"""
BASE = ", init: cytology-base"
WAYS = {
    "cytology-base with filters (488 features)": (BASE, "features: {timesteps: [0], extractors: [ddpm, filters]}\n"),
    "cytology-base alone": (BASE, "features: {timesteps: [0]}\n"),
}


def main() -> None:
    """Measure each feature set with 5 and 30 crops, and write results/live.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    machine = describe()
    rows = [_measured(way, crops) for way in WAYS for crops in (5, 30)]
    columns = ("features", "labelled crops", "first stroke", "later strokes, median", "slowest", "saved", "imported")
    note = (
        f"Seconds. Crops of {SIDE_PX} px with strokes on a tenth of them. The first stroke computes the features of "
        "all crops. A later stroke is saved, the MLPs are refitted and the crop is segmented again (all in 'later "
        "strokes'). It is then imported, but the view does not wait for that."
    )
    table = Table("From a stroke to its result", note, columns, rows)
    print(write_results("live", "The live view of the page Annotate", [table], machine=machine, notes=NOTES))


def _measured(way: str, crops: int) -> list[Any]:
    with run_with_crops(*WAYS[way], crops=crops) as annotating:
        live = LiveResults(annotating)
        found, _ = annotating.crops()
        crop = found[0]
        picture, marks = annotating.open(crop)
        first, later, saving, importing = _stroke(annotating, live, crop, picture, marks.ids), [], [], []
        for stroke in range(1, STROKES + 1):
            ids = marks.ids.copy()
            ids[20 * stroke : 20 * stroke + 8, 40:200] = stroke % 3
            seen, saved, imported = _stroke(annotating, live, crop, picture, ids)
            later.append(seen + saved)
            saving.append(saved)
            importing.append(imported)
        return [
            way,
            crops,
            round(first[0], 2),
            round(statistics.median(later), 2),
            round(max(later), 2),
            round(statistics.median(saving), 3),
            round(statistics.median(importing), 2),
        ]


def _stroke(
    annotating: Annotating, live: LiveResults, crop: CropFile, picture: NDArray[np.uint8], ids: NDArray[np.uint8]
) -> tuple[float, float, float]:
    """Return the seconds until a stroke is shown, of saving it before that, and of importing it afterwards."""
    moments = [time.perf_counter()]
    path = annotating.save(crop, "Bo", ids, drawn_of(crop.path))
    moments.append(time.perf_counter())
    live.view(crop, picture, ids)
    moments.append(time.perf_counter())
    annotating.take_in(path)
    moments.append(time.perf_counter())
    saved, seen, imported = np.diff(moments).tolist()
    return seen, saved, imported


@contextmanager
def run_with_crops(init: str, more: str, *, crops: int) -> Iterator[Annotating]:
    """Create a run with annotated and imported crops; return its annotation session."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            run = Path(name) / "runs" / "live"
            (run / "to_label").mkdir(parents=True)
            Path("short.yaml").write_text(RECIPE.format(side=SIDE_PX, init=init, more=more))
            (run / "recipe.yaml").write_text(dump_recipe(load_recipe("short.yaml")))
            annotating = Annotating(run)
            for number in range(crops):
                _make_crop(run / "to_label" / f"smear_{number}_0_0.png", number)
            found, _ = annotating.crops()
            for crop in found:
                annotating.save(crop, "Bo", _marks(crop.path))
            annotating.take_in(run / "to_label")
            yield annotating
        finally:
            os.chdir(before)


def _discs(number: int) -> Sequence[tuple[int, int]]:
    return [(x, y) for x, y in np.random.default_rng(number).integers(30, SIDE_PX - 30, (8, 2)).tolist()]


def _painted(values: NDArray[np.uint8], number: int, radii: Sequence[tuple[int, Any]]) -> NDArray[np.uint8]:
    row, column = np.indices((SIDE_PX, SIDE_PX))
    for x, y in _discs(number):
        for radius, value in radii:
            values[(row - y) ** 2 + (column - x) ** 2 < radius**2] = value
    return values


def _make_crop(path: Path, number: int) -> None:
    """Draw cells with grain, recorded as a crop of its own slide."""
    picture = np.full((SIDE_PX, SIDE_PX, 3), (238, 232, 228), np.uint8)
    picture = _painted(picture, number, ((24, (150, 190, 200)), (7, (70, 50, 110))))
    grain = np.random.default_rng(1000 + number).integers(-8, 9, picture.shape)
    Image.fromarray(np.clip(picture + grain, 0, 255).astype(np.uint8)).save(path)
    sidecar = {"slide": f"smear_{number}", "region": [0, 0, SIDE_PX, SIDE_PX], "mpp": 0.5}
    path.with_name(f"{path.stem}.crop.json").write_text(json.dumps(sidecar))


def _marks(path: Path) -> NDArray[np.uint8]:
    """Annotate a tenth of a crop: two strips through its cells."""
    number = int(path.stem.split("_")[1])
    ids = _painted(np.zeros((SIDE_PX, SIDE_PX), np.uint8), number, ((24, 1), (7, 2)))
    kept = np.zeros(ids.shape, bool)
    for x, y in _discs(number)[:2]:
        kept[max(0, y - 6) : y + 7] = True
        kept[:, max(0, x - 1) : x + 2] = True
    ids[~kept] = IGNORE
    return ids


if __name__ == "__main__":
    main()
