"""Scores of the base model's proposals without labels.

    python -m tests.benchmarks.proposals RECIPE [section.key=value ...] [--class nucleus]

Labels of the recipe must be imported; only its train crops are used. Each crop gets the shapes that ``label-crops
--propose`` and the annotation page draw: the base model's segmentation, traced and simplified. Writes
results/proposals.md and .json.
"""

import argparse
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.classes import IGNORE
from cytoseg.devices import pick_device
from cytoseg.diffusion.state import load_backbone
from cytoseg.evaluation.match_objects import crop_objects
from cytoseg.interpreter.proposals_without_labels import PROBABLE, MaskHeadProposals
from cytoseg.labels.index import LabelledCrop
from cytoseg.labels.proposal_file import proposal
from cytoseg.metrics.objects import ObjectCounts, object_scores
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.workflows.backbone import backbone_folder
from cytoseg.workflows.crop_split import split_of
from tests.benchmarks.machine import Table, describe, shared_note, write_results

NEAR_PX = (1.0, 2.0)
"""A corner within this distance of a true outline need not be moved."""


def main() -> None:
    """Propose shapes on every train crop and compare them with the labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--class", dest="name", default="nucleus")
    given = parser.parse_args()
    machine = describe()
    recipe = load_recipe(given.recipe, given.overrides)
    classes, device = recipe.class_list(), pick_device(recipe.training.device)
    tune_cpu_allocator()
    unet, _, origin = load_backbone(backbone_folder(recipe, recipe.run_folder()))
    guess = MaskHeadProposals(unet, classes, device=device, precision=recipe.training.precision)
    crops, begin = split_of(recipe).train, time.process_time()
    found = [_looked_at(crop, guess, recipe, name=given.name) for crop in crops]
    seconds = (time.process_time() - begin) / len(crops)
    rows = [_row("all", found), *(_row(crop.crop, [one]) for crop, one in zip(crops, found, strict=True))]
    head = ("crops", "IoU", "found of", "F1 at IoU .5", "corners", *(f"kept at {near:g} px" for near in NEAR_PX))
    print(
        write_results(
            "proposals",
            f"Proposals of {recipe.training.init} without any label: {given.name}",
            [Table(f"{len(crops)} train crops of {recipe.name}", "Pooled, and per crop.", head, rows)],
            machine=machine,
            notes=f"{shared_note(machine)} The model has seen {origin['crops_seen']:,} crops of sources. Pixels "
            f"with a probability over {PROBABLE} are proposed; this value was chosen on train crops of "
            "lbc. IoU is pooled "
            "over pixels. An object is found if its IoU with a true one is at least .5. A corner of a "
            "proposed polygon is "
            "kept if a true outline is within the given distance. Test crops were not used. "
            f"{seconds:.2f} s of CPU time per crop, including the comparison.",
        )
    )


def _looked_at(crop: LabelledCrop, guess: MaskHeadProposals, recipe: Recipe, *, name: str) -> dict[str, Any]:
    classes = recipe.class_list()
    truth, proposed, wanted = crop.label_map(), guess(crop.picture()), classes.names.index(name)
    scored = truth != IGNORE
    true, guessed = (truth == wanted) & scored, (proposed == wanted) & scored
    counts = crop_objects(truth, proposed, classes=classes, settings=recipe.object_settings())[name]
    content = proposal(proposed, classes, picture="crop.png")
    corners = [point for shape in content["shapes"] if shape["label"] == name for point in shape["points"]]
    distances = _from_outline(true, np.array(corners).reshape(-1, 2))
    return {
        "both": int((true & guessed).sum()),
        "either": int((true | guessed).sum()),
        "objects": counts,
        "distances": distances,
    }


def _from_outline(mask: NDArray[np.bool_], corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure the distance of (N, 2) corners, which lie between pixels, from the edges of a mask's pixels."""
    padded = np.pad(mask, 1)
    around = np.stack([padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]])
    edge = around.any(0) & ~around.all(0)  # corners of pixels, (H + 1, W + 1)
    if not edge.any():
        return np.full(len(corners), np.inf)
    far = ndimage.distance_transform_edt(~edge)
    x, y = np.rint(corners).astype(int).T
    return np.asarray(far[y.clip(0, far.shape[0] - 1), x.clip(0, far.shape[1] - 1)])


def _row(name: str, found: list[dict[str, Any]]) -> list[Any]:
    total: ObjectCounts = found[0]["objects"]
    for one in found[1:]:
        total = total + one["objects"]
    scores, distances = object_scores(total), np.concatenate([one["distances"] for one in found])
    iou = sum(one["both"] for one in found) / max(1, sum(one["either"] for one in found))
    kept = [f"{np.mean(distances <= near):.0%}" if len(distances) else "n/a" for near in NEAR_PX]
    f1 = "n/a" if scores.f1 is None else f"{scores.f1:.3f}"
    return [
        name,
        f"{iou:.3f}",
        f"{total.matched} of {total.truth}, {total.predicted} proposed",
        f1,
        len(distances),
        *kept,
    ]


if __name__ == "__main__":
    main()
