"""SegDiff compared with a U-Net from scratch on the same crops: IoU by number of draws, and seconds per megapixel.

    python -m tests.benchmarks.segdiff recipes/lbc.yaml [--seeds 1] [--crops 30] [--set section.key=value ...]

The recipe's labels must be imported. Both methods are trained on the train crops alone, without a pretrained model.
Writes results/segdiff.*. SegDiff needs a minute of one core per test crop: 225 passes of its network. ``--crops``
scores fewer of them, evenly spaced.
"""

import argparse
import time
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from cytoseg.classes import IGNORE
from cytoseg.features.extract import to_input
from cytoseg.interpreter.segdiff import SegDiff, drawn_probabilities
from cytoseg.interpreter.segdiff_train import train_segdiff
from cytoseg.interpreter.vote import jensen_shannon
from cytoseg.labels.index import LabelledCrop
from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.segmentation import iou
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.workflows.compared_methods import TrainingData, baselines
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.train_segdiff import new_segdiff, segdiff_settings
from tests.benchmarks.machine import Table, describe, shared_note, write_results

VOTES = (1, 3, 9)
SAMPLED_PX = 2000
"""Number of pixels per crop at which disagreement is compared with errors."""
Map = NDArray[np.uint8]


def segdiff_rows(learning: TrainingData, test: Sequence[LabelledCrop], seed: int) -> tuple[list[list[object]], float]:
    """Train SegDiff and score it with one, three and nine draws; return rows and the AUROC of disagreement."""
    recipe = learning.recipe
    settings = segdiff_settings(recipe, seed)
    model = new_segdiff(len(recipe.class_list()), settings)
    begin = time.process_time()
    trained = train_segdiff(model, learning.labelled, settings=settings, device=learning.device).eval()
    learning_s = time.process_time() - begin
    precision, classes = recipe.training.precision, len(recipe.class_list())
    counts = {votes: np.zeros((classes, classes), np.int64) for votes in VOTES}
    errors, mean_disagreements, predicting_s = [], [], 0.0
    for number, crop in enumerate(test):
        truth = crop.label_map()
        begin = time.process_time()
        draws = draw(trained, crop, precision)
        predicting_s += time.process_time() - begin
        for votes in VOTES:
            counts[votes] += confusion_counts(truth, chosen(draws, votes), classes)
        some = np.random.default_rng([seed, number]).choice(np.flatnonzero(truth != IGNORE), SAMPLED_PX)
        errors.append((chosen(draws, VOTES[-1]) != truth).flat[some])
        mean_disagreements.append(jensen_shannon(draws)[0].numpy().flat[some])
    per_draw = predicting_s / megapixels(test) / VOTES[-1]
    rows = [
        [f"SegDiff, {votes} draws", seed, *scores(counts[votes]), f"{learning_s:.0f}", f"{votes * per_draw:.1f}"]
        for votes in VOTES
    ]
    return rows, float(roc_auc_score(np.concatenate(errors), np.concatenate(mean_disagreements)))


def draw(model: SegDiff, crop: LabelledCrop, precision: str) -> torch.Tensor:
    """Draw nine class maps of a crop; return (9, 1, K, H, W)."""
    return drawn_probabilities(model, to_input(crop.picture()[None]), precision=precision)


def chosen(draws: torch.Tensor, votes: int) -> Map:
    """Combine the first draws by vote; return (H, W) class ids."""
    found: Map = draws[:votes].mean(0).argmax(1)[0].numpy().astype(np.uint8)
    return found


def scratch_row(learning: TrainingData, test: Sequence[LabelledCrop], seed: int) -> list[object]:
    """Train and score the U-Net from scratch."""
    classes = len(learning.recipe.class_list())
    method = next(method for method in baselines(learning) if method.key == "scratch")
    begin = time.process_time()
    predict = method.fit(seed)
    learning_s = time.process_time() - begin
    begin = time.process_time()
    maps = [predict(crop.picture()) for crop in test]
    predicting_s = time.process_time() - begin
    counts = sum(confusion_counts(crop.label_map(), found, classes) for crop, found in zip(test, maps, strict=True))
    return [
        method.title,
        seed,
        *scores(np.asarray(counts)),
        f"{learning_s:.0f}",
        f"{predicting_s / megapixels(test):.2f}",
    ]


def megapixels(crops: Iterable[LabelledCrop]) -> float:
    """Add up the sizes of crops."""
    return sum(crop.label_map().size for crop in crops) / 1e6


def scores(counts: NDArray[np.int64]) -> list[str]:
    """Format the IoU of each class."""
    return [f"{value:.3f}" for value in iou(counts)]


def table(recipe: Recipe, seeds: int, crops: int) -> tuple[Table, str]:
    """Measure all seeds; return the table and the AUROC of disagreement."""
    split = split_of(recipe)
    learning = TrainingData.of(recipe, split)
    test = [split.test[number] for number in np.linspace(0, len(split.test) - 1, crops).round().astype(int)]
    rows, worth = [], []
    for seed in range(seeds):
        found, auroc = segdiff_rows(learning, test, seed)
        rows += [*found, scratch_row(learning, test, seed)]
        worth.append(auroc)
    columns = ("method", "seed", *recipe.class_list().names, "learning, s", "prediction, s a megapixel")
    note = (
        f"{len(split.train)} train crops, {len(test)} of {len(split.test)} test crops; IoU pooled over the test crops."
    )
    found = ", ".join(f"{auroc:.2f}" for auroc in worth)
    return Table("SegDiff and the U-Net from scratch", note, columns, rows), found


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--crops", type=int, default=30)
    parser.add_argument("--set", action="append", default=[], help="override a key of the recipe")
    options = parser.parse_args()
    machine = describe()
    torch.set_num_threads(1)
    found, worth = table(load_recipe(options.recipe, options.set), options.seeds, options.crops)
    notes = (
        "CPU seconds, one thread. AUROC of the nine draws' disagreement (Jensen-Shannon) against "
        f"wrong pixels, {SAMPLED_PX} pixels of each test crop: {worth}. {shared_note(machine)}"
    )
    print(write_results("segdiff", "SegDiff and the U-Net from scratch", [found], machine=machine, notes=notes))


if __name__ == "__main__":
    main()
