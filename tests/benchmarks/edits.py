"""How well edited images match the requested label map, as segmented by an independent network.

    python -m tests.benchmarks.edits RECIPE FOLDER [--n 16] [--scales 1,2] [--steps 25] [--seconds 300] [--write]

The run of RECIPE has a diffusion model, an interpreter and exact labels (tests.benchmarks.true_crops). In each test
crop a nucleus is removed, a nucleus of another crop is added, and the whole crop is redrawn from its own label map. The
judge (--judge, see tests.benchmarks.judge) is trained on other crops of the train slides with exact labels and takes no
part in the editing. FOLDER stores finished edits, so the command can be continued after --seconds. --write writes
results/edits_NAME.md, .json and .png from them.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cytoseg.devices import pick_device
from cytoseg.evaluation.generative_features import filter_features, standardised
from cytoseg.evaluation.generative_scores import kernel_distance
from cytoseg.features.extract import to_input
from cytoseg.patterns import fits
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.studies.compare import Predict
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.edited_map import changed_region
from cytoseg.workflows.redrawing import Edit, EditOptions, Editor
from tests.benchmarks.judge import JUDGES, train_judge
from tests.benchmarks.machine import RESULTS, Table, describe, shared_note, write_results
from tests.benchmarks.true_crops import true_crops

Map = NDArray[np.uint8]
KINDS = ("removed", "added", "drawn")
GONE = 0.1
"""A removed nucleus counts as gone if the judge finds a nucleus on less than this share of its pixels."""
MIN_PX = 20
_ROWS = "edits.jsonl"
_SHOWN = 4
_FRESH, _SETS = 24, 20


@dataclass(frozen=True)
class Task:
    """One edit: its name, the edit, and the pixels of the nucleus that was removed or added."""

    name: str
    kind: str
    edit: Edit
    nucleus: NDArray[np.bool_]


def tasks_of(crops: Sequence[tuple[Map, Map]], nucleus: int) -> Iterator[Task]:
    """List the edits of images with exact label maps: (H, W, 3) uint8 and (H, W) uint8 ids."""
    everywhere = np.ones(crops[0][1].shape, bool)
    for number, (picture, truth) in enumerate(crops):
        rng = np.random.default_rng([7, number])
        donor = crops[(number + 1) % len(crops)][1]
        for kind, found in (("removed", _removed(truth, nucleus, rng)), ("added", _added(truth, donor, nucleus, rng))):
            if found is not None:
                wanted, place = found
                yield Task(f"{kind}_{number}", kind, Edit(picture, truth, wanted, changed_region(truth, wanted)), place)
        yield Task(f"drawn_{number}", "drawn", Edit(picture, truth, truth, everywhere), truth == nucleus)


def _removed(truth: Map, nucleus: int, rng: np.random.Generator) -> tuple[Map, NDArray[np.bool_]] | None:
    """Fill a nucleus with the most frequent class around it."""
    place = _one_nucleus(truth == nucleus, rng)
    if place is None:
        return None
    around = truth[ndimage.binary_dilation(place, iterations=2) & (truth != nucleus)]
    return np.where(place, np.bincount(around).argmax(), truth).astype(np.uint8), place


def _added(truth: Map, donor: Map, nucleus: int, rng: np.random.Generator) -> tuple[Map, NDArray[np.bool_]] | None:
    """Place a nucleus of another crop where there is only cytoplasm, or the class before the nucleus."""
    shape = _one_nucleus(donor == nucleus, rng)
    if shape is None:
        return None
    rows, columns = ndimage.find_objects(shape.astype(np.int64))[0]
    small = np.pad(shape[rows, columns], 2)
    for _ in range(200):
        y, x = (int(rng.integers(side - part + 1)) for side, part in zip(truth.shape, small.shape, strict=True))
        window = truth[y : y + small.shape[0], x : x + small.shape[1]]
        if (window[ndimage.binary_dilation(small, iterations=2)] == nucleus - 1).all():
            place = np.zeros(truth.shape, bool)
            place[y : y + small.shape[0], x : x + small.shape[1]] = small
            return np.where(place, nucleus, truth).astype(np.uint8), place
    return None


def _one_nucleus(nuclei: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_] | None:
    """Choose a whole nucleus of at least ``MIN_PX`` that does not touch the border."""
    parts, count = ndimage.label(nuclei)
    border = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    whole = [i for i in range(1, count + 1) if i not in border and (parts == i).sum() >= MIN_PX]
    return parts == rng.choice(whole) if whole else None


def judged(task: Task, drawn: Map, found: Map, before: Map, other: Map) -> dict[str, Any]:
    """Count the judge's pixels in an edited image.

    Args:
        task: The requested edit.
        drawn: (H, W, 3), the edited image.
        found: (H, W), the judge's class map of it.
        before: (H, W), the judge's class map of the original.
        other: (H, W), the label map of another crop.
    """
    inside, nucleus = task.edit.region, int(max(task.edit.wanted.max(), task.edit.shown.max()))
    seen = (found == nucleus) & inside

    def overlap(asked: Map) -> list[int]:
        wanted = (asked == nucleus) & inside
        return [int((seen & wanted).sum()), int((seen | wanted).sum())]

    return {
        "outside": int((drawn != task.edit.picture).any(2)[~inside].sum()),
        "asked": overlap(task.edit.wanted),
        "other": overlap(other),
        "there": float((found == nucleus)[task.nucleus].mean()),
        "before": float((before == nucleus)[task.nucleus].mean()),
        "agrees": float((found == task.edit.wanted)[inside].mean()),
    }


def table_of(rows: Sequence[dict[str, Any]], own: float) -> Table:
    """Summarise the rows by arm and kind of edit."""
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        for kind in KINDS:
            some = [row for row in rows if (row["arm"], row["kind"]) == (arm, kind)]
            if some:
                lines.append([arm, kind, len(some), *_cells(kind, some)])
    note = (
        "Nucleus IoU of the judge's segmentation of the redrawn regions with the requested map, and with the map of "
        "another crop, pooled over edits. On the unedited test crops the judge's nucleus IoU with the truth is "
        f"{own:.2f}. Gone: removed nuclei of which the judge finds less than {GONE:.0%}; seen before: "
        "those of which it "
        "found half or more in the original. Bytes outside: edits that changed any byte outside their region."
    )
    columns = ("arm", "edit", "n", "bytes outside", "IoU asked", "IoU other map", "agreement", "gone", "seen before")
    return Table("Edits, as the judge segments them", note, columns, lines)


def _cells(kind: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    def iou(key: str) -> str:
        both, either = (sum(row[key][i] for row in rows) for i in range(2))
        return f"{both / either:.2f}" if either else "-"

    gone = before = "-"
    if kind == "removed":
        gone = f"{np.mean([row['there'] < GONE for row in rows]):.0%}"
        before = f"{np.mean([row['before'] >= 0.5 for row in rows]):.0%}"
    outside = sum(row["outside"] > 0 for row in rows)
    agrees = f"{np.mean([row['agrees'] for row in rows]):.2f}"
    return [str(outside), iou("asked"), iou("other"), agrees, gone, before]


def distances(folder: Path, rows: Sequence[dict[str, Any]], recipe: Recipe, n: int) -> Table:
    """Compare the distributions of edited images and of real test crops with that of crops of the train slides."""
    split = split_of(recipe)
    train, test = ({crop.slide for crop in crops} for crops in (split.train, split.test))
    real = [crop.picture() for crop in split.test[:n]]
    fresh = list(true_crops(recipe, per_slide=_FRESH, size_px=real[0].shape[0], seed=5))
    by = filter_features(_tensor([crop.picture() for crop in split.train]))
    reference = standardised(filter_features(_tensor([crop[2] for crop in fresh if fits(crop[1], train)])), by)[0]
    others = standardised(filter_features(_tensor([crop[2] for crop in fresh if fits(crop[1], test)])), by)[0]

    def kid(pictures: Sequence[Map]) -> str:
        return f"{kernel_distance(standardised(filter_features(_tensor(pictures)), by)[0], reference, seed=0):.3f}"

    def floor(count: int) -> str:
        rng = np.random.default_rng(count)
        sets = [rng.choice(len(others), count, replace=False) for _ in range(_SETS)]
        found = [float(kernel_distance(others[chosen], reference, seed=0)) for chosen in sets]
        return f"{np.mean(found):.2f} (sd {np.std(found):.2f})"

    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        for kind in KINDS:
            some = [row for row in rows if (row["arm"], row["kind"]) == (arm, kind)]
            if len(some) > 1:
                before = kid([real[_number(row["name"])] for row in some])
                edited_kid = kid([_read(folder, row) for row in some])
                lines.append([f"{arm}, {kind}", len(some), edited_kid, before, floor(len(some))])
    note = (
        f"KID of filter features against {len(reference)} other crops of the train slides: of the edited crops, of the "
        f"same crops before the edit, and of as many other real crops of the test slides ({_SETS} "
        "sets). The test slides "
        "have other stains."
    )
    return Table("Distance from real crops", note, ("pictures", "n", "KID", "before", "real crops"), lines)


def _number(name: str) -> int:
    return int(name.split("_")[1])


def _tensor(pictures: Sequence[Map]) -> torch.Tensor:
    return to_input(np.stack(pictures))


def _read(folder: Path, row: dict[str, Any]) -> Map:
    with Image.open(folder / row["arm"] / f"{row['name']}.png") as image:
        return np.array(image)


def sheet(folder: Path, rows: Sequence[dict[str, Any]], tasks: Sequence[Task], recipe: Recipe) -> Image.Image:
    """Draw the first edits of each kind: image, its label map, the requested map, and a column for each arm."""
    colours, arms = recipe.class_list().colour_table(), list(dict.fromkeys(row["arm"] for row in rows))
    there = {(row["arm"], row["name"]) for row in rows}
    lines = []
    for kind in KINDS:
        some = [t for t in tasks if t.kind == kind and all((arm, t.name) in there for arm in arms)][:_SHOWN]
        for task in some:
            tiles = [task.edit.picture, colours[task.edit.shown], colours[task.edit.wanted]]
            tiles += [_read(folder, {"arm": arm, "name": task.name}) for arm in arms]
            lines.append(np.concatenate([np.pad(tile, ((2, 2), (2, 2), (0, 0))) for tile in tiles], axis=1))
    whole = Image.fromarray(np.concatenate(lines))
    return whole.resize((3 * whole.width, 3 * whole.height), Image.Resampling.NEAREST)


def main() -> None:
    """Edit and segment until the time is over; write the results if requested."""
    options = _options()
    recipe = load_recipe(options.recipe)
    torch.set_num_threads(1)
    split, nucleus = split_of(recipe), len(recipe.classes) - 1
    crops = [(crop.picture(), crop.label_map()) for crop in split.test[: options.n]]
    tasks, rows = list(tasks_of(crops, nucleus)), _rows(options.folder)
    judge = train_judge(recipe, options.judge, per_slide=options.per_slide)
    before = [judge(picture) for picture, _ in crops]
    done = {(row["arm"], row["name"]) for row in rows}
    end = time.monotonic() + options.seconds
    for row in edited(recipe, tasks, crops, (judge, before), options, done):
        rows.append(row)
        with (options.folder / _ROWS).open("a") as file:
            file.write(json.dumps(row) + "\n")
        if time.monotonic() > end:
            break
    print(f"{len(rows)} of {len(tasks) * len(options.scales)} edits")
    tables = [
        table_of(rows, _own_iou(before, [truth for _, truth in crops], nucleus)),
        distances(options.folder, rows, recipe, options.n),
    ]
    if options.write:
        sheet(options.folder, rows, tasks, recipe).save(RESULTS / f"edits_{recipe.name}.png")
        machine = describe()
        notes = f"{_notes(recipe, options)} {shared_note(machine)}"
        write_results(
            f"edits_{recipe.name}", "Edits assessed by an independent network", tables, machine=machine, notes=notes
        )
    print("\n".join(table.markdown() for table in tables))


def edited(
    recipe: Recipe,
    tasks: Sequence[Task],
    crops: Sequence[tuple[Map, Map]],
    judging: tuple[Predict, Sequence[Map]],
    options: argparse.Namespace,
    done: set[tuple[str, str]],
) -> Iterator[dict[str, Any]]:
    """Make the edits that are not in the folder; yields a row for each edit."""
    judge, before = judging
    editor = Editor(recipe, recipe.run_folder(), device=pick_device(recipe.training.device))
    how = "conditional" if recipe.diffusion.condition == "map" else "guided"
    for task in tasks:
        for scale in options.scales:
            arm, number = f"{how} x{scale:g}", _number(task.name)
            if (arm, task.name) in done:
                continue
            strength = 1.0 if task.kind == "drawn" else options.strength
            drawn = editor(task.edit, EditOptions(strength, scale, options.steps, number))
            (options.folder / arm).mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn).save(options.folder / arm / f"{task.name}.png")
            counts = judged(task, drawn, judge(drawn), before[number], crops[(number + 3) % len(crops)][1])
            yield {"arm": arm, "name": task.name, "kind": task.kind, **counts}


def _own_iou(found: Sequence[Map], truth: Sequence[Map], nucleus: int) -> float:
    both = sum(int(((a == nucleus) & (b == nucleus)).sum()) for a, b in zip(found, truth, strict=True))
    either = sum(int(((a == nucleus) | (b == nucleus)).sum()) for a, b in zip(found, truth, strict=True))
    return both / max(1, either)


def _notes(recipe: Recipe, options: argparse.Namespace) -> str:
    d, c = recipe.diffusion, recipe.crops
    return (
        f"Synthetic slides at mpp {recipe.slides.mpp}; model {d.backbone}, dim {d.dim}, dim_mults {list(d.dim_mults)}, "
        f"condition {d.condition}, crops of {c.size_px} px; edits of crops of test slides, {options.steps} steps, "
        f"strength {options.strength:g}. Judge: {options.judge}, trained on {options.per_slide} crops "
        "of each train slide."
    )


def _rows(folder: Path) -> list[dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _ROWS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--scales", type=lambda text: [float(part) for part in text.split(",")], default=[1.0, 2.0])
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--strength", type=float, default=0.8)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--judge", choices=JUDGES, default="forest")
    parser.add_argument("--per-slide", type=int, default=8)
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
