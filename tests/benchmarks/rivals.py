"""IoU of several methods trained on the same few labelled crops; a CSV file has a line for each training.

    python -m tests.benchmarks.rivals RECIPE FILE.csv [METHODS@CROPS[:DRAWS] ...] [--set section.key=value ...]

``joined+imagenet-unet@5:0,1,2`` trains these two methods on three draws of five train crops, ``decoder@all`` one method
on all of them. Draw i takes the first crops of ``numpy.random.default_rng(100 + i).permutation(n)`` and trains with
seed i. Methods are the keys of ``cytoseg compare``; ``decoder-mt`` is the decoder with ``decoder.unlabelled=1``. With
``--part green='^[01]'`` the slides with such names form a part: ``joined@green`` is trained on its train crops, and its
test crops get a column. With ``--instances FOLDER`` the objects of the last class are matched with instance maps.
``--cross`` scores on the train crops of the slides that were not used for training, instead of on the test crops.

The recipe's labels must be imported. Each line is written when its training ends; trainings that are in FILE.csv are
skipped. At the end the tables of FILE.csv are printed: mean and range over the draws.
"""

import argparse
import csv
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import IGNORE
from cytoseg.labels.index import LabelledCrop
from cytoseg.labels.split import Split
from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.objects import ObjectCounts, object_counts, object_scores
from cytoseg.metrics.segmentation import iou
from cytoseg.objects.watershed import label_objects
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.studies.compare import ComparedMethod, Predict
from cytoseg.workflows.backbone import run_backbone
from cytoseg.workflows.compared_methods import TrainingData, baselines, decoders, imagenet_unet, mlps
from cytoseg.workflows.crop_split import split_of

TITLES = {
    "joined": "ours: MLPs on the base model's features and 72 filters",
    "ddpm": "MLPs on the base model's features alone",
    "decoder": "ours: network tuned from the base model",
    "decoder-mt": "the same, with a mean teacher on the unlabelled slides",
    "imagenet-unet": "U-Net on an ImageNet encoder",
    "imagenet-joined": "MLPs on frozen ImageNet features and 72 filters",
    "imagenet": "MLPs on frozen ImageNet features",
    "scratch": "U-Net from scratch",
    "filters": "MLPs on 72 filters",
    "forest": "random forest, 72 filters",
}
Row = dict[str, str]


@dataclass(frozen=True)
class Job:
    """One training: method, train crops, the name of that selection, and draw or seed."""

    method: str
    crops: tuple[int, ...]
    name: str
    draw: int


@dataclass(frozen=True)
class Truth:
    """What is scored: class names, crops, their parts by name, and the folder of instance maps or None."""

    names: tuple[str, ...]
    crops: tuple[LabelledCrop, ...]
    parts: Mapping[str, re.Pattern[str]]
    instances: Path | None

    def score(self, predict: Predict) -> Row:
        """Predict every crop; return the columns of a row and the seconds per crop."""
        counts, objects, seconds = [], ObjectCounts(), 0.0
        for crop in self.crops:
            picture, truth = crop.picture(), crop.label_map()
            begin = time.perf_counter()
            found = predict(picture)
            seconds += time.perf_counter() - begin
            counts.append(confusion_counts(truth, found, len(self.names)))
            if self.instances is not None:
                objects += _objects(self.instances / f"{crop.crop}.png", truth, found == len(self.names) - 1)
        row = dict(zip(self.names, _texts(sum(counts)), strict=True))
        for part, pattern in self.parts.items():
            inside = [c for c, crop in zip(counts, self.crops, strict=True) if pattern.search(crop.slide)]
            row[f"{self.names[-1]}_{part}"] = _texts(sum(inside))[-1]
        if self.instances is not None:
            found_scores = object_scores(objects)
            row |= {"f1": f"{found_scores.f1 or 0:.4f}", "aji": f"{found_scores.aji or 0:.4f}"}
        return {**row, "predict_s": f"{seconds / len(counts):.2f}"}


def jobs_of(specs: Sequence[str], split: Split, parts: Mapping[str, re.Pattern[str]]) -> Iterator[Job]:
    """Parse ``METHODS@CROPS[:DRAWS]``; all methods with the same crops follow each other."""
    for spec in specs:
        methods, _, which = spec.partition("@")
        name, _, draws = which.partition(":")
        for draw in [int(text) for text in (draws or "0").split(",")]:
            if name in parts:
                crops = [i for i, crop in enumerate(split.train) if parts[name].search(crop.slide)]
            elif name == "all":
                crops = list(range(len(split.train)))
            else:
                crops = np.random.default_rng(100 + draw).permutation(len(split.train))[: int(name)].tolist()
            for method in methods.split("+"):
                yield Job(method, tuple(crops), f"{name}c{draw}" if name.isdigit() else name, draw)


def method_of(job: Job, recipe: Recipe, taught: Recipe, split: Split) -> ComparedMethod:
    """Return the method of a job and its train crops; ``taught`` is the recipe of ``decoder-mt``."""
    some = TrainingData.of(taught if job.method == "decoder-mt" else recipe, split).only(job.crops)
    network, _, backbone = run_backbone(recipe, recipe.run_folder())
    lists = (baselines(some), imagenet_unet(some), mlps(some, network, backbone), decoders(some, network, backbone))
    key = job.method.removesuffix("-mt")
    return next(method for found in lists for method in found if method.key == key)


def tables(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Format a table for each number of crops: mean and range over the draws, and the mean training time in seconds."""
    parts = []
    for count in dict.fromkeys(re.sub(r"c\d+$", "", row["learnt_from"]) for row in rows):
        here = [row for row in rows if re.sub(r"c\d+$", "", row["learnt_from"]) == count]
        lines = [f"| method | {' | '.join(names)} | training, s | trainings |", "|---" * (len(names) + 3) + "|"]
        for key, title in TITLES.items():
            if some := [row for row in here if row["method"] == key]:
                seconds = sum(float(row["fit_s"]) for row in some) / len(some)
                cells = " | ".join(_spread([float(row[name]) for row in some]) for name in names)
                lines.append(f"| {title} | {cells} | {seconds:.0f} | {len(some)} |")
        parts.append(f"Train crops: {count}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def main() -> None:
    """Do the trainings that are not in the file, and print the tables."""
    options = _options()
    overrides = options.set or []
    recipe, taught = (load_recipe(options.recipe, [*overrides, *more]) for more in ([], ["decoder.unlabelled=1"]))
    parts = {name: re.compile(text) for name, _, text in (part.partition("=") for part in options.part or [])}
    split = split_of(recipe)
    truth = Truth(tuple(recipe.class_list().names), split.test, parts, options.instances)
    torch.set_num_threads(options.threads)
    for job in jobs_of(options.jobs, split, parts):
        row = {"method": job.method, "learnt_from": job.name, "draw_or_seed": str(job.draw)}
        if any(row.items() <= done.items() for done in read_rows(options.file)):
            continue
        begin = time.perf_counter()
        predict = method_of(job, recipe, taught, split).fit(job.draw)
        fit_s = f"{time.perf_counter() - begin:.1f}"
        learnt = {split.train[i].slide for i in job.crops}
        others = tuple(crop for crop in split.train if crop.slide not in learnt)
        scored = replace(truth, crops=others) if options.cross else truth
        add_row(options.file, {**row, **scored.score(predict), "fit_s": fit_s})
    rows = read_rows(options.file)
    print(tables(rows, [name for name in rows[0] if name in (*truth.names, "f1", "aji")]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("file", type=Path)
    parser.add_argument("jobs", nargs="*")
    parser.add_argument("--set", action="append", help="override a key of the recipe")
    parser.add_argument("--part", action="append", help="NAME=REGEX of slides")
    parser.add_argument("--instances", type=Path)
    parser.add_argument("--cross", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def _objects(path: Path, truth: NDArray[np.uint8], found: NDArray[np.bool_]) -> ObjectCounts:
    instances = np.asarray(Image.open(path)).astype(np.int64)
    return object_counts(instances, label_objects(found, split=True, least_px=20), ignored=truth == IGNORE)


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a CSV file; none if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def add_row(path: Path, row: Row) -> None:
    """Append a row, after a line of the column names if the file is new."""
    new = not path.exists()
    columns = list(row) if new else list(read_rows(path)[0])
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
        if new:
            writer.writeheader()
        writer.writerow(row)


def _texts(counts: NDArray[np.int64]) -> list[str]:
    return [f"{value:.4f}" for value in iou(counts)]


def _spread(values: Sequence[float]) -> str:
    mean = f"{sum(values) / len(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f}-{max(values):.3f})"


if __name__ == "__main__":
    main()
