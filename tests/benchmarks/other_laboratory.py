"""Nuclei found on fields of another laboratory by methods that were trained on the recipe's crops.

    python -m tests.benchmarks.other_laboratory RECIPE FOLDER POINTS.csv FILE.csv METHODS@CROPS[:DRAWS] ...
        [--shrink 0.4] [--every 3] [--near 2] [--set section.key=value ...]

POINTS.csv marks nuclei in the pictures of FOLDER: columns image_filename, x, y in their pixels, and bethesda_system.
Every third picture is shrunk, so that its nuclei are as wide as those of the recipe's crops, and segmented. A nucleus
is found if a pixel of the last class lies within --near shrunk pixels of its point. Points say nothing of what is
false, so the share of the picture that the class covers stands beside: of two methods that cover as much, the one that
finds more is better. METHODS are those of rivals.py, and ``proposals``: the base model's, from no crop at all.
"""

import argparse
import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cytoseg.devices import pick_device
from cytoseg.diffusion.state import load_backbone
from cytoseg.interpreter.proposals_without_labels import MaskHeadProposals
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.studies.compare import Predict
from cytoseg.workflows.backbone import backbone_folder
from cytoseg.workflows.crop_split import split_of
from tests.benchmarks.rivals import Row, add_row, jobs_of, method_of, read_rows

NORMAL = "Negative for intraepithelial lesion"


@dataclass(frozen=True)
class Field:
    """A picture and the nuclei marked in it.

    Attributes:
        picture: (H, W, 3) uint8 RGB, shrunk.
        points: (N, 2) x and y in pixels of the shrunk picture.
        normal: (N,) whether the cell was called normal.
    """

    picture: NDArray[np.uint8]
    points: NDArray[np.float64]
    normal: NDArray[np.bool_]


def read_fields(folder: Path, points: Path, *, shrink: float, every: int) -> list[Field]:
    """Read every so many of the pictures that have points, in the order of their names."""
    marked = defaultdict[str, list[Row]](list)
    with points.open(newline="") as file:
        for row in csv.DictReader(file):
            marked[row["image_filename"]].append(row)
    return [_field(folder / name, marked[name], shrink) for name in sorted(marked)[::every]]


def _field(path: Path, rows: Sequence[Row], shrink: float) -> Field:
    with Image.open(path) as image:
        small = image.convert("RGB").resize(
            (round(image.width * shrink), round(image.height * shrink)), Image.Resampling.BOX
        )
    places = np.array([(float(row["x"]) * shrink, float(row["y"]) * shrink) for row in rows])
    return Field(np.asarray(small), places, np.array([row["bethesda_system"] == NORMAL for row in rows]))


def hits(mask: NDArray[np.bool_], points: NDArray[np.float64], near: float) -> NDArray[np.bool_]:
    """Say for each of (N, 2) points x, y whether a pixel of the mask has its centre within ``near`` pixels of it."""
    y, x = np.nonzero(mask)
    centres = np.stack([x, y], axis=1) + 0.5
    distances = np.linalg.norm(points[:, None] - centres[None], axis=2)
    return np.asarray((distances <= near).any(axis=1))


def score(predict: Predict, fields: Iterable[Field], *, wanted: int, near: float) -> Row:
    """Segment the fields; return the shares of nuclei found, and of pixels covered by the class."""
    found, normal, covered, pixels = [], [], 0, 0
    for field in fields:
        mask = predict(field.picture) == wanted
        found.append(hits(mask, field.points, near))
        normal.append(field.normal)
        covered, pixels = covered + int(mask.sum()), pixels + mask.size
    hit, usual = np.concatenate(found), np.concatenate(normal)
    shares = {"found": hit.mean(), "normal": hit[usual].mean(), "abnormal": hit[~usual].mean()}
    return {name: f"{value:.4f}" for name, value in {**shares, "covered": covered / pixels}.items()}


def main() -> None:
    """Train and score what is not in the file; print a line each."""
    given = _options()
    recipe, taught = (load_recipe(given.recipe, [*(given.set or []), *more]) for more in ([], ["decoder.unlabelled=1"]))
    fields = read_fields(given.folder, given.points, shrink=given.shrink, every=given.every)
    torch.set_num_threads(1)
    split, classes = split_of(recipe), recipe.class_list()
    parts: Mapping[str, re.Pattern[str]] = {}
    for job in jobs_of(given.jobs, split, parts):
        row = {"method": job.method, "learnt_from": job.name, "draw_or_seed": str(job.draw)}
        if any(row.items() <= done.items() for done in read_rows(given.file)):
            continue
        predict = (
            _proposals(recipe) if job.method == "proposals" else method_of(job, recipe, taught, split).fit(job.draw)
        )
        row |= score(predict, fields, wanted=len(classes) - 1, near=given.near)
        add_row(given.file, row)
        print(row, flush=True)


def _proposals(recipe: Recipe) -> Predict:
    unet, _, _ = load_backbone(backbone_folder(recipe, recipe.run_folder()))
    device = pick_device(recipe.training.device)
    return MaskHeadProposals(unet, recipe.class_list(), device=device, precision=recipe.training.precision)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("folder", type=Path)
    parser.add_argument("points", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("jobs", nargs="+")
    parser.add_argument("--shrink", type=float, default=0.4)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--near", type=float, default=2.0)
    parser.add_argument("--set", action="append", help="override a key of the recipe")
    return parser.parse_args()


if __name__ == "__main__":
    main()
