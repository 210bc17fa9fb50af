"""``cytoseg evaluate``: scores on the test slides, with baselines."""

import time
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.table import Table

from cytoseg.evaluation.evaluate import CropPrediction, Method, Scoring, evaluate
from cytoseg.evaluation.history import earlier_kept
from cytoseg.evaluation.results_file import EvaluationInputs, saved_evaluation
from cytoseg.evaluation.tables import evaluation_table
from cytoseg.features.settings import EXTRACTORS
from cytoseg.interpreter.bundle import Bundle, load_bundle
from cytoseg.interpreter.forest import TREES, commonest_class, fit_forest
from cytoseg.labels.index import LabelledCrop
from cytoseg.labels.split import Split
from cytoseg.labels.stains import stains_of
from cytoseg.metrics.results import MEASURES, NOT_APPLICABLE, ObjectScores, Risk, corrected_text, share_text
from cytoseg.recipe import Recipe
from cytoseg.shipped import shipped_models
from cytoseg.terminal import cells, console, progress, say
from cytoseg.workflows.crop_prediction import tiles_of_large_crops
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.recorded_command import (
    Overrides,
    RecipeArgument,
    Run,
    refuse_other_classes,
    refuse_other_mpp,
    start_run,
)
from cytoseg.workflows.run_paths import BUNDLE
from cytoseg.workflows.trained_bundle import ensemble_method, refuse_trained_on

ENOUGH_CROPS = 30
"""With this many annotated crops, more crops are not the first advice."""


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    baseline: Annotated[
        bool, typer.Option("--baseline/--no-baseline", help="Also train and score a random forest on image filters.")
    ] = True,
) -> None:
    """Score the ensemble on the test slides, alongside the baselines.

    Per-class IoU, Dice, precision and recall, pooled and per slide, with 95 % intervals over slides, the calibration
    error, uncertainty scores and object scores, as JSON and CSV; an image of every test
    crop (image, truth, prediction, disagreement).
    Baselines: a random forest on 72 multi-scale filters from the same crops, and the most frequent class.
    """
    with start_run(recipe, overrides, command="evaluate") as current:
        split = split_of(current.recipe)
        bundle = load_bundle(current.folder / BUNDLE)
        refuse_other_classes(bundle.classes.names, current.recipe, command="evaluate")
        refuse_other_mpp(bundle.mpp, current.recipe, command="evaluate")
        refuse_trained_on(bundle, split, recipe=current.recipe.name, command="evaluate")
        inputs = _inputs(bundle, split, current.recipe, baseline=baseline)
        evaluation = saved_evaluation(current.folder / "evaluation" / "evaluation.json", inputs)
        if evaluation is None:
            evaluation = _evaluate(bundle, split, current=current, inputs=inputs)
        else:
            say("The evaluation is up to date: same bundle and labels.")
        _show(evaluation)
        if current.recipe.interpreter.mode == "reference":
            say(_as_published(evaluation))
        for sentence in advice(evaluation, current.recipe, recipe):
            say(sentence)
        say(f"Images of each test crop: {current.folder / 'evaluation' / 'crops'}")


def _inputs(bundle: Bundle, split: Split, recipe: Recipe, *, baseline: bool) -> EvaluationInputs:
    """Return everything that determines the evaluation."""
    objects = recipe.object_settings()
    return EvaluationInputs(
        recipe=recipe.name,
        train_crops=len(split.train),
        bundle=bundle.origin,
        test_labels={crop.crop: crop.label_sha256 for crop in split.test},
        corrected_tests=tuple(crop.crop for crop in split.test if crop.from_prediction),
        test_pictures={crop.crop: (crop.slide, crop.image_sha256) for crop in split.test},
        baseline=baseline,
        object_settings={**asdict(objects), "classes": list(objects.classes), "split": list(objects.split)},
        uncertainty_measures=tuple(MEASURES),
        stain_patterns={stain: tuple(texts) for stain, texts in recipe.labels.stains.items()},
        train_hashes={crop.crop: (crop.image_sha256, crop.label_sha256) for crop in split.train},
        seed=recipe.training.seed,
        class_colours=bundle.classes.colours,
        tiles=tiles_of_large_crops(recipe, [(crop.height, crop.width) for crop in split.test]),
    )


def _evaluate(bundle: Bundle, split: Split, *, current: Run, inputs: EvaluationInputs) -> dict[str, Any]:
    methods = [ensemble_method(bundle, current.recipe)]
    if inputs.baseline:
        methods.append(_forest(split.train, seed=current.recipe.training.seed))
    methods.append(_commonest(split.train))
    r = current.recipe
    stains = stains_of((crop.slide for crop in split.test), r.labels.stains)
    with earlier_kept(current.folder), progress("test crops", len(split.test)) as bar:
        return evaluate(
            methods,
            split.test,
            folder=current.folder / "evaluation",
            scoring=Scoring(bundle.classes, r.training.seed, r.object_settings(), stains),
            inputs=inputs,
            on_crop=bar.update_of,
        )


def _forest(train: tuple[LabelledCrop, ...], *, seed: int) -> Method:
    begin = time.perf_counter()
    with progress("random forest", TREES) as bar:
        forest = fit_forest(
            [c.picture() for c in train], [c.label_map() for c in train], seed=seed, on_trees=bar.update
        )
    seconds = time.perf_counter() - begin
    return Method(
        "forest", "Random forest, 72 filters", lambda picture: CropPrediction(forest.predict(picture)), seconds
    )


def _commonest(train: tuple[LabelledCrop, ...]) -> Method:
    commonest = commonest_class([c.label_map() for c in train])
    return Method(
        "commonest",
        "Commonest class always",
        lambda picture: CropPrediction(np.full(picture.shape[:2], commonest, np.uint8)),
        None,
    )


def advice(evaluation: dict[str, Any], recipe: Recipe, name: str) -> list[str]:
    """Return advice if a baseline scores higher than the ensemble; otherwise an empty text.

    Args:
        evaluation: Result of ``evaluate``.
        recipe: Its recipe.
        name: The recipe's file name, for commands.
    """
    ours, *others = evaluation["methods"]
    best = max(others, key=lambda method: method["miou"] or 0.0, default=None)
    if best is None or ours["miou"] is None or (best["miou"] or 0.0) <= ours["miou"]:
        return []
    tries = []
    if recipe.interpreter.kind == "mlps" and "filters" not in recipe.features.extractors:
        both = ", ".join(name for name in EXTRACTORS if name in ("filters", *recipe.features.extractors))
        tries.append(f"join its filters to the features (features.extractors=[{both}])")
    if evaluation["train_crops"] < ENOUGH_CROPS:
        tries.append(f"annotate more than {evaluation['train_crops']} crops (cytoseg queue {name})")
    if recipe.training.init is None:
        models = " or ".join(shipped_models())
        tries.append(f"start from a model that knows cells (cytoseg train-ddpm {name} --init {models})")
    tries += [f"let the features be chosen (cytoseg select-features {name})", "train the diffusion model longer"]
    head = f"{best['title']} scores higher: mean IoU {best['miou']:.3f}, against {ours['miou']:.3f}. What to try:"
    return [head, *(f"- {text}" for text in tries[:4])]


def _as_published(evaluation: dict[str, Any]) -> str:
    """Report the mean IoU by the rules of the published figures, which count some pixels and classes otherwise."""
    figures = [(method["title"], method.get("reference_miou")) for method in evaluation["methods"]]
    told = ", ".join(f"{title} {share_text(miou)}" for title, miou in figures)
    return (
        "Mean IoU by the rules of the published figures (predictions on ignored pixels are false positives, a class "
        f"in neither truth nor prediction has 0): {told}"
    )


def _show(evaluation: dict[str, Any]) -> None:
    header, *rows = evaluation_table(evaluation)
    crops, slides = evaluation["test_crops"], evaluation["test_slides"]
    say(f"{crops} test crops of {slides} slides, IoU (95 % interval)")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in header:
        # A number that does not fit wraps to the next line: rich would truncate it.
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*cells(*row))
    console.print(table)
    if told := corrected_text(sum(bool(c.get("from_prediction")) for c in evaluation.get("crops", ())), crops):
        say(f"note: {told}")
    for method in evaluation["methods"]:
        if calibration := method.get("calibration"):  # older evaluations have none
            ece = calibration["ece"]  # None without labelled pixels
            say(f"Calibration error (ECE) of {method['title']}: {NOT_APPLICABLE if ece is None else f'{ece:.3f}'}")
        for measure in method.get("uncertainty", []):
            say(
                f"Uncertainty of {method['title']} by {MEASURES[measure['measure']]}: {Risk(**measure['whole']).text()}"
            )
        for name, scores in method.get("objects", {}).items():
            say(f"Objects of {method['title']}, {ObjectScores(**scores).text(name)}")
