"""Gain from generated pairs: 1, 5 and 30 real labelled crops, with and without pairs that were labelled by their MLPs.

    python -m tests.benchmarks.made_worth RECIPE FOLDER [--counts 1,5,30] [--draws 2] [--made 200] [--seconds 300]
        [--sampler ddim --steps 25] [--methods mlps,decoder,student]

The run of RECIPE has a diffusion model and labels. For each count and draw, a separate run in FOLDER is trained on that
many train crops: MLPs, then pairs labelled by these MLPs (`make-pairs`, a tenth dropped), then a decoder and a student
of the MLPs, each with and without the pairs. All are scored on the recipe's test crops by `cytoseg evaluate`. Each
training takes minutes; the command stops after --seconds and can be continued. --write writes
results/made_worth_NAME.md and .json from the finished ones. section.key=value changes the recipe of all runs.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from cytoseg.cli import build_app
from cytoseg.labels.index import CROPS, MAPS, LabelIndex, LabelledCrop, load_index, write_index
from cytoseg.recipe import Recipe, dump_recipe, load_recipe
from cytoseg.recipe.file import recipe_of
from cytoseg.workflows.crop_split import split_of
from tests.benchmarks.machine import Table, describe, shared_note, write_results

STUDENT = ("interpreter.kind=student", "student.teacher=mlps", "student.crops=0")
_ROWS = "made_worth.jsonl"
METHODS = ("mlps", "decoder", "student")


@dataclass(frozen=True)
class Piece:
    """One training and its scores: number of real crops, draw, method, and whether generated pairs are used."""

    count: int
    draw: int
    method: str
    made: bool

    def name(self) -> str:
        """Name the run's folder: MLPs and decoders with generated pairs have other labels, and so their own run."""
        own_labels = self.made and self.method != "student"
        return f"{self.count}c{self.draw}{'_made' if own_labels else ''}"


def pieces_of(
    counts: Sequence[int], draws: int, methods: Sequence[str] = METHODS, *, made: bool = True
) -> Iterator[Piece]:
    """List the trainings; those that generate pairs, if any are to be made, come before those that need them."""
    for count in counts:
        for draw in range(draws):
            for method in methods:
                for with_pairs in (False, True) if made else (False,):
                    yield Piece(count, draw, method, with_pairs)


class Study:
    """The study in its folder.

    Args:
        recipe: The recipe of the run.
        folder: Where the runs are stored.
        pairs: Arguments of `make-pairs`: number of images, sampler, steps.
        changes: Overrides of the recipe.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, pairs: Sequence[str], changes: Sequence[str]) -> None:
        self._recipe, self._folder, self._pairs, self._changes = recipe, folder, pairs, changes
        self._split = split_of(recipe)

    def do(self, piece: Piece) -> dict[str, Any]:
        """Do one training and score it; return its row."""
        plain = replace(piece, method="mlps", made=False)
        run = self._run(plain.name(), self._drawn(piece))
        begin = time.process_time()
        overrides: list[str] = []
        if piece.made:
            _command("train-interpreter", run)
            _command("make-pairs", run, *self._pairs)
            pairs = load_index(self._folder / plain.name() / "made" / "labels").crops
            if piece.method == "student":
                overrides = [f"student.made={len(pairs)}"]
            else:
                run = self._run(piece.name(), (*self._drawn(piece), *pairs))
        overrides += {"mlps": [], "decoder": ["interpreter.kind=decoder"], "student": STUDENT}[piece.method]
        _command("train-interpreter", run, *overrides)
        _command("evaluate", run, *overrides, "--no-baseline")
        evaluation = json.loads((run.parent / run.stem / "evaluation" / "evaluation.json").read_text())
        return {**vars(piece), "iou": _iou(evaluation), "cpu_s": round(time.process_time() - begin)}

    def _drawn(self, piece: Piece) -> tuple[LabelledCrop, ...]:
        order = np.random.default_rng(100 + piece.draw).permutation(len(self._split.train))
        return tuple(self._split.train[i] for i in order[: piece.count])

    def _run(self, name: str, train: Sequence[LabelledCrop]) -> Path:
        """Create a run with these train crops and all test crops, unless it exists; return its recipe file."""
        folder, file = self._folder / name, self._folder / f"{name}.yaml"
        if file.exists():
            return file
        (folder / "labels" / CROPS).mkdir(parents=True)
        (folder / "labels" / MAPS).mkdir()
        crops = [replace(_copied(crop, folder / "labels"), folder=folder / "labels") for crop in train]
        crops += [replace(_copied(crop, folder / "labels"), folder=folder / "labels") for crop in self._split.test]
        names = self._recipe.class_list().names
        write_index(LabelIndex(folder / "labels", names, tuple(sorted(crops, key=lambda crop: crop.crop))))
        (folder / "ddpm").symlink_to((self._recipe.run_folder() / "ddpm").resolve())
        samples = self._folder / "samples"
        samples.mkdir(exist_ok=True)
        (folder / "samples").symlink_to(samples.resolve())
        slides = json.dumps(sorted({crop.slide for crop in self._split.test}))
        changes = [f"name={json.dumps(name)}", f"folder={json.dumps(str(folder))}", f"labels.test_slides={slides}"]
        values = self._recipe.model_dump(mode="json")
        values["labels"]["folder"] = None
        file.write_text(dump_recipe(recipe_of(values, [*changes, *self._changes], where=file)))
        return file


def _copied(crop: LabelledCrop, labels: Path) -> LabelledCrop:
    for part in (CROPS, MAPS):
        shutil.copy(crop.folder / part / f"{crop.crop}.png", labels / part)
    return crop


def _command(name: str, recipe: Path, *arguments: str) -> None:
    result = CliRunner().invoke(build_app(name), [name, str(recipe), *arguments])
    if result.exit_code:
        raise SystemExit(f"{name} {recipe} {' '.join(arguments)}: {result.output[-400:]}")


def _iou(evaluation: dict[str, Any]) -> float:
    """Read the IoU of the last class."""
    return float(evaluation["methods"][0]["classes"][-1]["iou"])


def table_of(rows: Sequence[dict[str, Any]], counts: Sequence[int]) -> Table:
    """Format a line for each method, with and without generated pairs."""
    lines: list[list[Any]] = []
    for method in METHODS:
        for made in (False, True):
            cells = []
            for count in counts:
                some = [r["iou"] for r in rows if (r["method"], r["made"], r["count"]) == (method, made, count)]
                spread = f" ({min(some):.3f}-{max(some):.3f})" if len(some) > 1 else ""
                cells.append(f"{np.mean(some):.3f}{spread}" if some else "not done")
            lines.append([method, "with" if made else "without", *cells])
    columns = ("method", "made pairs", *(f"{count} real" for count in counts))
    note = "IoU of the last class on the test crops: mean and range over the draws of train crops."
    return Table("With and without generated pairs", note, columns, lines)


def main() -> None:
    """Do trainings until the time is over; print the table."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    path, recipe = options.folder / _ROWS, load_recipe(options.recipe)
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    pairs = ("--n", str(options.made), "--sampler", options.sampler, "--steps", str(options.steps))
    study = Study(recipe, options.folder.resolve(), pairs=pairs, changes=options.changes)
    end = time.monotonic() + options.seconds
    for piece in pieces_of(options.counts, options.draws, options.methods, made=options.made > 0):
        if time.monotonic() > end:
            break
        if not any(vars(piece).items() <= row.items() for row in rows):
            rows.append(study.do(piece))
            with path.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    table = table_of(rows, options.counts)
    if options.write:
        machine = describe()
        notes = (
            f"{options.made} images drawn by {options.sampler.upper()} in {options.steps} steps, a tenth dropped; "
            "changes to the recipe: "
            f"{', '.join(options.changes) or 'none'}. {shared_note(machine)}"
        )
        write_results(f"made_worth_{recipe.name}", "Gain from generated pairs", [table], machine=machine, notes=notes)
    print(table.markdown())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("folder", type=Path)
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--counts", type=lambda text: [int(part) for part in text.split(",")], default=[1, 5, 30])
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--made", type=int, default=200)
    parser.add_argument("--methods", type=lambda text: text.split(","), default=METHODS)
    parser.add_argument("--sampler", choices=("ddim", "ddpm"), default="ddim")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
