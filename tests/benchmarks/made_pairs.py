"""Accuracy of the labels of generated pairs, kept and dropped, compared with an independent judge.

    python -m tests.benchmarks.made_pairs RECIPE [--judge imagenet-unet] [--per-slide 40] [--drops 0.1,0.25]

The run of RECIPE has labels of synthetic slides (tests.benchmarks.true_crops) and generated pairs (`cytoseg
make-pairs`). The judge is trained on crops of the train slides with exact labels; its segmentation of each generated
image is compared with the ensemble's label. Prints Markdown; --sheet FILE draws the most and the least certain pairs
with the judge's segmentation.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr

from cytoseg.interpreter.pair_selection import GeneratedPair, most_certain
from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.segmentation import iou, mean_iou
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.studies.compare import Predict
from cytoseg.workflows.crop_split import split_of
from tests.benchmarks.judge import JUDGES, train_judge
from tests.benchmarks.machine import Table, describe, shared_note

Map = NDArray[np.uint8]
Counts = NDArray[np.int64]
_DRAWS, _SHOWN = 1000, 6


@dataclass(frozen=True)
class JudgedPair:
    """A generated pair and the judge's segmentation of its image.

    Attributes:
        pair: Its number, uncertainty and tissue.
        picture: (H, W, 3) uint8.
        label: (H, W) uint8 ids, by the ensemble.
        seen: (H, W) uint8 ids, by the judge.
        counts: (classes, classes), rows the judge's class, columns the label's.
    """

    pair: GeneratedPair
    picture: Map
    label: Map
    seen: Map
    counts: Counts


def judged_pairs(recipe: Recipe, judge: Predict) -> list[JudgedPair]:
    """Segment all pairs of the recipe's run, including the dropped ones."""
    run, classes = recipe.run_folder(), len(recipe.classes)
    found = []
    for line in (run / "made" / "pairs.jsonl").read_text().splitlines():
        pair = GeneratedPair(**json.loads(line))
        picture = np.array(Image.open(run / "samples" / f"sample_{pair.number:05d}.png").convert("RGB"))
        label = np.array(Image.open(run / "made" / "maps" / f"{pair.number:05d}.png"))
        seen = judge(picture)
        found.append(JudgedPair(pair, picture, label, seen, confusion_counts(seen, label, classes=classes)))
    return found


def table_of(judged: Sequence[JudgedPair], drops: Sequence[float], names: Sequence[str]) -> Table:
    """Compare kept and dropped pairs: pooled IoU, and the interval of its difference over resampled pairs."""
    rows = []
    for drop in drops:
        numbers = {pair.number for pair in most_certain([j.pair for j in judged], drop)}
        kept = np.stack([j.counts for j in judged if j.pair.number in numbers])
        dropped = np.stack([j.counts for j in judged if j.pair.number not in numbers])
        rows.append([f"{drop:g}", len(kept), len(dropped), *_compared(kept, dropped)])
    columns = ("drop", "kept", "dropped", f"{names[-1]}, kept", "dropped", "mean IoU, kept", "dropped", "difference")
    note = (
        "IoU of the ensemble's labels with the judge's segmentation, pooled over pairs. Difference of "
        "the mean IoU: kept "
        "minus dropped, with its 95 % interval over resampled pairs."
    )
    return Table("Kept and dropped pairs", note, columns, rows)


def _compared(kept: Counts, dropped: Counts) -> list[str]:
    rng = np.random.default_rng(0)
    differences = [float(mean_iou(_again(kept, rng)) - mean_iou(_again(dropped, rng))) for _ in range(_DRAWS)]
    low, high = np.nanpercentile(differences, [2.5, 97.5])
    sums = [some.sum(0) for some in (kept, dropped)]
    last, mean = ([float(value) for value in values] for values in ([iou(s)[-1] for s in sums], map(mean_iou, sums)))
    cells = [f"{value:.3f}" for value in (*last, *mean)]
    return [*cells, f"{mean[0] - mean[1]:+.3f} ({low:+.3f} to {high:+.3f})"]


def _again(counts: Counts, rng: np.random.Generator) -> Counts:
    drawn: Counts = counts[rng.integers(len(counts), size=len(counts))].sum(0)
    return drawn


def sheet(judged: Sequence[JudgedPair], recipe: Recipe) -> Image.Image:
    """Draw the most certain pairs with cells in the left half, the least certain ones in the right half.

    A row holds three pairs: image, label and the judge's segmentation.
    """
    colours = recipe.class_list().colour_table()
    order = sorted((j for j in judged if j.pair.tissue > 0.3), key=lambda j: j.pair.uncertainty)
    halves = []
    for some in (order[:_SHOWN], order[-_SHOWN:]):
        tiles = [np.concatenate([j.picture, colours[j.label], colours[j.seen]], axis=1) for j in some]
        halves.append(np.concatenate([np.pad(tile, ((2, 2), (2, 6), (0, 0)), constant_values=255) for tile in tiles]))
    whole = Image.fromarray(np.concatenate(halves, axis=1))
    return whole.resize((2 * whole.width, 2 * whole.height), Image.Resampling.NEAREST)


def _judges_own(recipe: Recipe, judge: Predict) -> Counts:
    test = split_of(recipe).test
    found: Counts = sum(
        confusion_counts(crop.label_map(), judge(crop.picture()), classes=len(recipe.classes)) for crop in test
    )
    return found


def main() -> None:
    """Train the judge, segment the pairs and print the table."""
    options = _options()
    recipe = load_recipe(options.recipe)
    torch.set_num_threads(1)
    judge = train_judge(recipe, options.judge, per_slide=options.per_slide)
    own, judged = _judges_own(recipe, judge), judged_pairs(recipe, judge)
    names = recipe.class_list().names
    scores = [float(mean_iou(j.counts)) for j in judged]
    order = spearmanr([j.pair.uncertainty for j in judged], scores, nan_policy="omit").statistic
    judges = f"{options.judge}, {options.per_slide} crops of 64 px of each train slide"
    print(f"Judge: {judges}. {shared_note(describe())}\n")
    print(f"IoU with the truth of test crops: {', '.join(map('{} {:.3f}'.format, names, iou(own)))}.")
    print(f"Spearman's correlation of a pair's uncertainty with its mean IoU: {order:.2f} ({len(judged)} pairs).\n")
    print(table_of(judged, options.drops, names).markdown())
    if options.sheet:
        sheet(judged, recipe).save(options.sheet)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--judge", choices=JUDGES, default="imagenet-unet")
    parser.add_argument("--per-slide", type=int, default=40)
    parser.add_argument("--drops", type=lambda text: [float(part) for part in text.split(",")], default=[0.1, 0.25])
    parser.add_argument("--sheet", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
