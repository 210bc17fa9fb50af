"""Gain from crops chosen by the queue compared with random crops.

    python -m tests.benchmarks.queue_gain RECIPE [section.key=value ...] [--seeds 8]

The recipe's diffusion model must be trained and its labels imported. For each seed the model is trained
on 5 random train crops, and the ensemble's disagreement is computed on the others. Then 5 crops are added, in three
ways: those that ``choose`` selects, as ``cytoseg queue`` does; the 5 of the highest disagreement, without the rules for
diversity; and 5 random ones, several times. After each addition the model is retrained and scored on the test crops.
Writes results/queue_gain.md and .json after each seed.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytoseg.active_learning.choose_regions import choose
from cytoseg.allocator import tune_cpu_allocator
from cytoseg.diffusion.state import load_backbone
from cytoseg.features.extract import FeatureExtractor, NativeFeatures, to_input
from cytoseg.features.pixel_table import PixelTable, gather_pixels
from cytoseg.geometry import Region
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.native_inference import member_probabilities
from cytoseg.interpreter.train_mlps import train_ensemble
from cytoseg.interpreter.vote import jensen_shannon, vote
from cytoseg.labels.index import LabelledCrop
from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.segmentation import iou
from cytoseg.predict.candidate_regions import Candidate, appearance_of, highest_tenth, most_uncertain_classes
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.labelled_pixels import LabelledCrops, ensemble_settings, pixel_draw
from tests.benchmarks.machine import Table, describe, shared_note, write_results

START, MORE, DRAWS = 5, 5, 3
"""Number of initial crops, of added crops, and of random draws."""
ARMS = ("start", "queue", "highest", "random")
Scores = Mapping[str, list[NDArray[np.float64]]]


@dataclass(frozen=True)
class Ground:
    """Data shared by all trainings: crops, training pixels, and the features of whole crops (float16)."""

    recipe: Recipe
    train: Sequence[LabelledCrop]
    test: Sequence[LabelledCrop]
    table: PixelTable
    features: Mapping[str, NativeFeatures]


def main() -> None:
    """Run the loop with every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    tune_cpu_allocator()
    machine = describe()
    ground = prepare(load_recipe(options.recipe, options.overrides))
    found: list[Scores] = []
    for seed in range(options.seeds):
        found.append(close_loop(ground, seed))
        print(write(found, ground.recipe, machine), flush=True)


def prepare(recipe: Recipe) -> Ground:
    """Read crops and compute features, once for all seeds."""
    split, device, precision = split_of(recipe), torch.device("cpu"), recipe.training.precision
    unet, architecture, _ = load_backbone(recipe.run_folder() / "ddpm", recipe.architecture())
    extractor = FeatureExtractor(unet, architecture, recipe.feature_settings(), device=device, precision=precision)
    table = gather_pixels(extractor, LabelledCrops(split.train), pixel_draw(recipe, recipe.training.seed))
    features = {}
    for crop in (*split.train, *split.test):
        native = extractor(to_input(crop.picture()[None]))
        features[crop.crop] = NativeFeatures([m.half() for m in native.maps], native.size, native.padded)
    return Ground(recipe, split.train, split.test, table, features)


def close_loop(ground: Ground, seed: int, *, draws: int = DRAWS) -> Scores:
    """Train on a few crops, add more in each way, and return the test IoU of each class, (K,), for each way."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(ground.train)).tolist()
    begin, others = order[:START], sorted(order[START:])
    first = fit(ground, begin, seed)
    candidates = [candidate(ground, number, first) for number in others]
    numbers = {c.region.x: number for c, number in zip(candidates, others, strict=True)}
    queue = [numbers[c.candidate.region.x] for c in choose(candidates, MORE)]
    highest = [numbers[c.region.x] for c in sorted(candidates, key=lambda c: -c.score)[:MORE]]
    drawn = [rng.choice(others, MORE, replace=False).tolist() for _ in range(draws)]

    def learnt(more: list[int]) -> NDArray[np.float64]:
        return score(ground, fit(ground, [*begin, *more], seed))

    return {
        "start": [score(ground, first)],
        "queue": [learnt(queue)],
        "highest": [learnt(highest)],
        "random": [learnt(more) for more in drawn],
    }


def fit(ground: Ground, numbers: Sequence[int], seed: int) -> Ensemble:
    """Train the recipe's MLPs on some of the train crops."""
    crops = [ground.train[number] for number in numbers]
    table, names = ground.table, ground.recipe.class_list().names
    assert isinstance(table.features, torch.Tensor)
    rows = torch.isin(table.crops, torch.tensor(numbers))
    place = torch.zeros(len(ground.train), dtype=torch.int64)
    place[list(numbers)] = torch.arange(len(numbers))
    counts = {k: pixels for k, name in enumerate(names) if (pixels := sum(crop.pixels[name] for crop in crops))}
    some = PixelTable(table.features[rows], table.classes[rows], place[table.crops[rows]], counts)
    settings = ensemble_settings(ground.recipe, seed)
    slides = [crop.slide for crop in crops]
    return train_ensemble(some, len(names), slides=slides, settings=settings, device=torch.device("cpu")).ensemble


def predict(ground: Ground, crop: LabelledCrop, ensemble: Ensemble) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return class map and disagreement of a crop, as prediction computes them."""
    native = ground.features[crop.crop]
    members = member_probabilities(
        ensemble,
        NativeFeatures([m.float() for m in native.maps], native.size, native.padded),
        precision=ground.recipe.training.precision,
    )
    class_map = vote(members, rule=ground.recipe.interpreter.vote)[0].argmax(0).numpy().astype(np.uint8)
    return class_map, jensen_shannon(members)[0].numpy()


def candidate(ground: Ground, number: int, ensemble: Ensemble) -> Candidate:
    """Describe a train crop as the queue describes a region; its labels are not used."""
    crop, classes = ground.train[number], len(ground.recipe.class_list())
    class_map, nats = predict(ground, crop, ensemble)
    # The queue never takes overlapping regions. Crops of one field may overlap, so they are placed apart.
    region = Region(number * crop.width, 0, crop.width, crop.height)
    class_shares = most_uncertain_classes(nats, class_map, classes=classes)
    appearance = appearance_of(crop.picture(), class_map, classes=classes)
    return Candidate(crop.slide, region, highest_tenth(nats), 0.0, class_shares, appearance)


def score(ground: Ground, ensemble: Ensemble) -> NDArray[np.float64]:
    """Return the IoU of each class over all test crops, (K,)."""
    classes, counts = len(ground.recipe.class_list()), 0
    for crop in ground.test:
        class_map, _ = predict(ground, crop, ensemble)
        counts = counts + confusion_counts(crop.label_map(), class_map, classes)
    return iou(np.asarray(counts))


def write(found: Sequence[Scores], recipe: Recipe, machine: dict[str, Any]) -> str:
    """Write the results so far."""
    names = (*recipe.class_list().names, "mean")
    # (seeds, arms, K + 1), averaged over random draws.
    values = np.array([[np.mean([[*v, v.mean()] for v in scores[arm]], axis=0) for arm in ARMS] for scores in found])
    reached = [
        [arm, START + MORE * (arm != "start"), *(_spread(part, "") for part in values[:, a].T)]
        for a, arm in enumerate(ARMS)
    ]
    gains = [[arm, *map(_spread, (values[:, a] - values[:, 0]).T)] for a, arm in enumerate(ARMS) if arm != "start"]
    against = values - values[:, 3:]
    paired = [
        [arm, *(f"{_spread(part)}, {(part > 0).sum()} of {len(part)} better" for part in against[:, a].T)]
        for a, arm in enumerate(ARMS)
        if arm in ("queue", "highest")
    ]
    heads = tuple(f"IoU {name}" for name in names)
    by_seed = [[s, arm, *(f"{v:.3f}" for v in values[s, a])] for s in range(len(found)) for a, arm in enumerate(ARMS)]
    between = _between_draws(found)
    tables = [
        Table("Reached", "Mean over the seeds [minimum and maximum].", ("crops", "number", *heads), reached),
        Table("Gain over the initial crops", "Paired by seed.", ("added", *heads), gains),
        Table("Gain over random crops", "Paired by seed.", ("added", *heads), paired),
        Table("By seed", "Random: the mean of its draws.", ("seed", "crops", *heads), by_seed),
    ]
    notes = (
        f"Recipe {recipe.name}: {START} train crops, then {MORE} more; {len(found)} seeds, {DRAWS} random draws "
        f"each. Standard deviation between random draws of one seed: {between}. {shared_note(machine)}"
    )
    return write_results(
        "queue_gain", "Gain of the queue's crops compared with random ones", tables, machine=machine, notes=notes
    )


def _spread(values: NDArray[np.float64], sign: str = "+") -> str:
    deviation = values.std(ddof=min(1, len(values) - 1))
    mean, least, most = (f"{value:{sign}.3f}" for value in (values.mean(), values.min(), values.max()))
    return f"{mean} [{least} to {most}], sd {deviation:.3f}"


def _between_draws(found: Sequence[Scores]) -> str:
    draws = np.array([scores["random"] for scores in found])
    if draws.shape[1] < 2:
        return "n/a"
    nucleus, mean = (part.std(axis=1, ddof=1).mean() for part in (draws[:, :, -1], draws.mean(axis=2)))
    return f"{nucleus:.3f} of the last class, {mean:.3f} of the mean"


if __name__ == "__main__":
    main()
