"""Risk-coverage scores of bundles on a recipe's test crops.

    python -m tests.benchmarks.risk_coverage RECIPE BUNDLE [BUNDLE ...]

The recipe's labels must be imported. Each bundle, with any kind of interpreter, predicts every test crop; the scores
are those of ``cytoseg evaluate``. Writes results/risk_coverage.md and .json.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from cytoseg.evaluation.evaluate import Method, Scoring, evaluate
from cytoseg.evaluation.results_file import EvaluationInputs
from cytoseg.interpreter.bundle import load_bundle
from cytoseg.labels.index import LabelledCrop
from cytoseg.metrics.results import MEASURES, Risk, fine_text, share_text
from cytoseg.metrics.risk import COVERAGES
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.trained_bundle import ensemble_method
from tests.benchmarks.machine import Table, describe, shared_note, write_results

COLUMNS = (
    "bundle",
    "predicted as",
    "ordered by",
    "pixels",
    "wrong",
    "AURC",
    "AURC at best",
    "errors in the 5 %",
    "ECE",
)
COVERED = (0.5, 0.8, 0.9, 0.95, 1.0)
NOTE = (
    "AURC: mean error rate among the most certain pixels, over all coverages; equal to `wrong` if the order is "
    "uninformative. Errors in the 5 %: share of the errors that are in the 5 % least certain pixels."
)


def methods_of(folders: list[Path], crops: tuple[LabelledCrop, ...], recipe: Recipe) -> list[Method]:
    """Load bundles by the names of their folders; stop at one that was trained on a test crop."""
    methods = []
    for folder in folders:
        bundle = load_bundle(folder)
        if learnt := sorted({crop.crop for crop in crops} & set(bundle.origin["labels"])):
            raise SystemExit(f"{folder}: was trained on the test crop {learnt[0]}")
        method = ensemble_method(bundle, recipe)
        methods.append(replace(method, key=str(folder), title=f"{_name(folder)} ({method.title})"))
    return methods


def rows_of(method: dict[str, Any]) -> list[list[object]]:
    """Return a row for all pixels and for the pixels of each predicted class, for each measure."""
    calibration, rows = method["calibration"], []
    errors = [calibration["ece"], *calibration["classes"]]
    names = ["all", *(entry["name"] for entry in method["classes"])]
    for measure in method["uncertainty"]:
        risks = [Risk(**entry) for entry in (measure["whole"], *measure["classes"])]
        for name, risk, ece in zip(names, risks, errors, strict=True):
            numbers = (fine_text(risk.error), fine_text(risk.aurc), fine_text(risk.aurc_best), share_text(risk.found))
            title = MEASURES[measure["measure"]]
            rows.append([method["title"], name, title, f"{risk.pixels:,}", *numbers, fine_text(ece)])
    return rows


def curves_of(method: dict[str, Any]) -> list[list[object]]:
    """Return the share of errors at some coverages, a row for each measure."""
    return [
        [method["title"], MEASURES[m["measure"]], *(fine_text(m["curve"][COVERAGES.index(c)]) for c in COVERED)]
        for m in method["uncertainty"]
    ]


def main() -> None:
    """Predict, score and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+", help="bundle folders, such as runs/lbc/interpreter/bundle")
    options = parser.parse_args()
    machine, recipe = describe(), load_recipe(options.recipe)
    crops = split_of(recipe).test
    methods = methods_of(options.bundles, crops, recipe)
    scoring = Scoring(recipe.class_list(), recipe.training.seed)
    with tempfile.TemporaryDirectory() as folder:
        found = evaluate(
            methods,
            crops,
            folder=Path(folder) / "evaluation",
            scoring=scoring,
            inputs=EvaluationInputs(recipe="benchmark", train_crops=0),
        )["methods"]
    ious = [[m["title"], *(share_text(c["iou"]) for c in m["classes"]), share_text(m["miou"])] for m in found]
    heads = ("bundle", *(f"IoU {name}" for name in recipe.class_list().names), "mean IoU")
    tables = [
        Table("Accuracy", "Of all test crops.", heads, ious),
        Table("Uncertainty", NOTE, COLUMNS, [row for method in found for row in rows_of(method)]),
        Table(
            "Share of errors among the most certain pixels",
            "By coverage, the share of labelled pixels that is kept.",
            ("bundle", "ordered by", *(f"{c:.0%}" for c in COVERED)),
            [row for method in found for row in curves_of(method)],
        ),
    ]
    slides = len({crop.slide for crop in crops})
    notes = f"Recipe {recipe.name}: {len(crops)} test crops of {slides} slides. {shared_note(machine)}"
    title = "Does uncertainty locate the errors of a prediction?"
    print(write_results("risk_coverage", title, tables, machine=machine, notes=notes))


def _name(folder: Path) -> str:
    """Name a bundle after its run, such as lbc for runs/lbc/interpreter/bundle."""
    parts = folder.resolve().parts
    return parts[-3] if parts[-2:] == ("interpreter", "bundle") else parts[-1]


if __name__ == "__main__":
    main()
