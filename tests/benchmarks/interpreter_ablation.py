"""Ablation of votes, dropout, ETF regulariser, early stopping and calibration.

    python tests/benchmarks/interpreter_ablation.py RECIPE [section.key=value ...] [--seeds 5]

The recipe's diffusion model must be trained and its labels imported. Features are computed once. The interpreters are
then trained on the train crops with each seed and variant, and scored with each vote on every fourth row and column of
the test crops. Writes results/interpreter_ablation.md and .json after each training.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from machine import Table, describe, shared_note, write_results
from torch import Tensor

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.classes import IGNORE
from cytoseg.diffusion.state import load_backbone
from cytoseg.features.extract import FeatureExtractor, gather, to_input
from cytoseg.features.pixel_table import PixelTable, gather_pixels
from cytoseg.interpreter.train_mlps import Trained, train_ensemble
from cytoseg.interpreter.vote import vote
from cytoseg.metrics.calibration import calibration_error, confidence_bins
from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.segmentation import iou
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.labelled_pixels import LabelledCrops, ensemble_settings, pixel_draw

WAYS: Mapping[str, Mapping[str, Any]] = {
    "as shipped": {},
    "dropout 0.3": {"dropout": 0.3},
    "ETF 0.4": {"etf_weight": 0.4},
    "slides held out, calibrated": {"calibrate": True},
    "slides held out, stopped early": {"early_stopping": True},
}
UNDONE = "slides held out"
"""The calibrated variant without its temperature."""
VOTES = ("soft", "hard", "geometric", "entropy")
EVERY = 4
BLOCK_PX = 4096
MEASURES = ("mean IoU", "NLL", "ECE")


@dataclass(frozen=True)
class Truth:
    """Features (P, D) float16 and classes (P,) of the scored pixels of all test crops."""

    features: Tensor
    classes: Tensor


def main() -> None:
    """Train and score every variant with every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    tune_cpu_allocator()
    machine = describe()
    recipe = load_recipe(options.recipe, options.overrides)
    names = recipe.class_list().names
    table, slides, truth = features_of(recipe)
    scores: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for seed in range(options.seeds):
        for way, changes in WAYS.items():
            settings = replace(ensemble_settings(recipe, seed), **changes)
            trained = train_ensemble(table, len(names), slides=slides, settings=settings, device=torch.device("cpu"))
            for title, temperature in scored_as(way, trained):
                found = score(trained, truth, classes=len(names), temperature=temperature)
                for rule, values in found.items():
                    scores[title, rule].append(values)
            print(write(scores, names, machine, recipe), flush=True)


def features_of(recipe: Recipe) -> tuple[PixelTable, list[str], Truth]:
    """Compute the training data, its slides and the scored pixels."""
    split, device = split_of(recipe), torch.device("cpu")
    unet, architecture, _ = load_backbone(recipe.run_folder() / "ddpm", recipe.architecture())
    precision = recipe.training.precision
    extractor = FeatureExtractor(unet, architecture, recipe.feature_settings(), device=device, precision=precision)
    table = gather_pixels(
        extractor,
        LabelledCrops(split.train),
        pixel_draw(recipe, recipe.training.seed),
    )
    features, classes = [], []
    for crop in split.test:
        label_map = crop.label_map()
        y, x = np.nonzero(label_map[::EVERY, ::EVERY] != IGNORE)
        pixels = np.stack([x, y], axis=1) * EVERY
        features.append(gather(extractor(to_input(crop.picture()[None])), pixels).half())
        classes.append(torch.from_numpy(label_map[pixels[:, 1], pixels[:, 0]].astype(np.int64)))
    return table, [crop.slide for crop in split.train], Truth(torch.cat(features), torch.cat(classes))


def scored_as(way: str, trained: Trained) -> Iterator[tuple[str, float]]:
    """Return the titles of the variants that a training yields, each with the temperature to divide out."""
    if trained.calibration is not None:
        yield UNDONE, trained.calibration.temperature
    yield way, 1.0


@torch.no_grad()
def score(trained: Trained, truth: Truth, *, classes: int, temperature: float) -> dict[str, list[float]]:
    """Return for each vote the IoU of each class, their mean, NLL and ECE."""
    counts, bins, nll = defaultdict(int), defaultdict(int), defaultdict(float)  # type: ignore[var-annotated]
    ensemble = trained.ensemble
    for features, ids in zip(truth.features.split(BLOCK_PX), truth.classes.split(BLOCK_PX), strict=True):
        logits = ensemble(features.float().expand(ensemble.members, -1, -1)) * temperature
        members = logits.softmax(2)[..., None, None]
        for rule in VOTES:
            probabilities = vote(members, rule=rule)[:, :, 0, 0]
            counts[rule] += confusion_counts(ids.numpy()[None], probabilities.argmax(1).numpy()[None], classes)
            bins[rule] += confidence_bins(probabilities.numpy(), ids.numpy())
            nll[rule] -= float(probabilities.gather(1, ids[:, None]).clamp_min(1e-12).log().sum())
    found = {}
    for rule in VOTES:
        by_class = iou(counts[rule])
        found[rule] = [*by_class, by_class.mean(), nll[rule] / len(truth.classes), calibration_error(bins[rule])]
    return found


def write(
    scores: Mapping[tuple[str, str], list[list[float]]], names: Sequence[str], machine: dict[str, Any], recipe: Recipe
) -> str:
    """Write the results so far."""
    rows = []
    for (way, rule), found in scores.items():
        values = np.array(found)
        spread = zip(values.mean(0), values.min(0), values.max(0), strict=True)
        rows.append([way, rule, len(found), *(f"{mean:.3f} [{low:.3f}-{high:.3f}]" for mean, low, high in spread)])
    alike = "The same features and pixels for all; initial weights, batches and folds depend on the seed."
    table = Table(
        f"Recipe {recipe.name}",
        "Mean over the seeds [minimum and maximum]; IoU pooled over the test crops, NLL in nats, ECE of 15 intervals.",
        ("training", "vote", "seeds", *(f"IoU {name}" for name in names), *MEASURES),
        rows,
    )
    return write_results(
        "interpreter_ablation",
        "Votes, dropout, ETF regulariser, early stopping, calibration",
        [table],
        machine=machine,
        notes=f"{alike} {shared_note(machine)}",
    )


if __name__ == "__main__":
    main()
