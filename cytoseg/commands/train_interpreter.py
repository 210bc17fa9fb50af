"""``cytoseg train-interpreter``: MLPs, decoder, student or SegDiff."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.devices import pick_device
from cytoseg.diffusion.efficientnet import WEIGHTS_SHA256
from cytoseg.errors import CheckpointError
from cytoseg.features.extract import FeatureExtractor
from cytoseg.features.pixel_table import PixelTable, gather_pixels
from cytoseg.features.settings import FeatureSettings
from cytoseg.interpreter.bundle import Bundle, Interpreter, load_bundle, save_bundle
from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.holdout import MIN_SLIDES
from cytoseg.interpreter.segdiff import SegDiff
from cytoseg.interpreter.student import Student
from cytoseg.interpreter.train_mlps import Trained, check_two_classes, train_ensemble
from cytoseg.labels.index import LabelledCrop
from cytoseg.memory_use import peak_memory
from cytoseg.recipe import Recipe
from cytoseg.runs import MetricsLog, versions
from cytoseg.terminal import progress, say
from cytoseg.workflows.backbone import interpreter_backbone
from cytoseg.workflows.generated_pairs import generated_crops
from cytoseg.workflows.labelled_pixels import (
    LabelledCrops,
    check_rows,
    ensemble_settings,
    memory_limits,
    pixel_draw,
    pixels_used,
    used_sentence,
)
from cytoseg.workflows.memory_option import parse_memory
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, Run, alone_in, start_run
from cytoseg.workflows.run_paths import BUNDLE, TEACHER, split_of
from cytoseg.workflows.source_overlap import refuse_sources_of_own
from cytoseg.workflows.train_segdiff import train_run_segdiff
from cytoseg.workflows.train_student import train_run_student
from cytoseg.workflows.tune_decoder import tune_run_decoder
from cytoseg.workflows.unlabelled_crops import unlabelled_inputs

Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Memory limit, such as 4G or 500M; overrides features.memory_gb."),
]


def run(recipe: RecipeArgument, overrides: Overrides = None, memory: Memory = None) -> None:
    """Train the ensemble of per-pixel MLPs on the labelled crops, or tune the decoder (interpreter.kind).

    Uses the newest checkpoint of train-ddpm, unless features.extractors excludes ddpm, and the imported crops that are
    not test crops; writes the bundle for evaluate and predict into interpreter/ in the run folder. An interrupted
    training keeps the old bundle; the same command resumes a decoder, student or SegDiff.
    """
    limit = [] if memory is None else [f"features.memory_gb={parse_memory(memory) / 1e9}"]
    with (
        start_run(recipe, [*(overrides or ()), *limit], command="train-interpreter") as current,
        alone_in((current.folder / BUNDLE).parent),
    ):
        device = pick_device(current.recipe.training.device)
        if device.type == "cpu":
            tune_cpu_allocator()
        unet, architecture, backbone = interpreter_backbone(current.recipe, current.folder)
        train = split_of(current.recipe).train
        check_two_classes(name for crop in train for name, pixels in crop.pixels.items() if pixels)
        refuse_sources_of_own(current.recipe)
        origin = {**_origin(current.recipe, train, backbone), **_made(current)}
        found = _found_before(current.folder / BUNDLE, origin)
        if found is not None:
            _renew(found, current)
            return
        extractor = FeatureExtractor(
            unet,
            architecture,
            _features(current.recipe),
            device=device,
            precision=current.recipe.training.precision,
        )
        _say_missing(train, current.recipe)
        _train(extractor, train, current=current, origin=origin)


def _train(
    extractor: FeatureExtractor,
    train: tuple[LabelledCrop, ...],
    *,
    current: Run,
    origin: dict[str, Any],
    place: Path = BUNDLE,
) -> Bundle:
    """Train the recipe's interpreter.kind, save it in the run folder, and return it."""
    recipe, begin = current.recipe, time.perf_counter()
    if recipe.interpreter.kind == "student":
        teacher = _teacher(extractor, train, current, backbone=origin["backbone"])
        found = _Found(train_run_student(teacher, train, current, origin=origin, device=extractor.device))
    elif recipe.interpreter.kind == "segdiff":
        found = _Found(train_run_segdiff(train, current, origin=origin, device=extractor.device))
    elif recipe.interpreter.kind == "decoder":
        found = _Found(tune_run_decoder(extractor.unet, train, current, origin=origin, device=extractor.device))
    else:
        found = _mlps(extractor, train, current)
    seconds = time.perf_counter() - begin
    origin = {**origin, **found.details, "train_seconds": round(seconds, 1), "versions": versions()}
    bundle = _bundle(found.interpreter, extractor, recipe, origin)
    save_bundle(current.folder / place, bundle)
    current.entry.update(train_crops=len(train), **found.details)
    say(f"Trained on {len(train)} crops in {seconds:.0f} s.")
    for sentence in found.sentences:
        say(sentence)
    return bundle


def _bundle(interpreter: Interpreter, extractor: FeatureExtractor, recipe: Recipe, origin: dict[str, Any]) -> Bundle:
    return Bundle(
        unet=_network(interpreter, extractor),
        architecture=extractor.architecture,
        interpreter=interpreter,
        features=extractor.settings,
        classes=recipe.class_list(),
        mpp=recipe.slides.mpp,
        vote=recipe.interpreter.vote,
        precision=recipe.training.precision,
        origin=origin,
        recipe=recipe.model_dump(mode="json"),
        encoder=extractor.encoder,
    )


def _network(interpreter: Interpreter, extractor: FeatureExtractor) -> nn.Module:
    """Return the network stored in a bundle beside its interpreter."""
    if isinstance(interpreter, Student | SegDiff):
        return nn.Identity()
    return interpreter.unet if isinstance(interpreter, Decoder) else extractor.unet


def _teacher(
    extractor: FeatureExtractor, train: tuple[LabelledCrop, ...], current: Run, *, backbone: dict[str, object]
) -> Bundle:
    """Return the student's teacher: an existing one with the same inputs, or a new one."""
    recipe = current.recipe
    kind = replace(recipe.interpreter, kind=recipe.student.teacher)
    as_teacher = replace(current, recipe=recipe.model_copy(update={"interpreter": kind}))
    origin = _origin(as_teacher.recipe, train, backbone)
    found = _found_before(current.folder / TEACHER, origin)
    if found is not None:
        say("The teacher is up to date.")
        return found
    return _train(extractor, train, current=as_teacher, origin=origin, place=TEACHER)


@dataclass(frozen=True)
class _Found:
    """Result of a training: the interpreter, details to store, and sentences for the user."""

    interpreter: Interpreter
    details: dict[str, Any] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()


def _mlps(extractor: FeatureExtractor, train: tuple[LabelledCrop, ...], current: Run) -> _Found:
    with peak_memory() as peak:
        table = _pixels(extractor, train, current)
        trained = _ensemble(table, train, current, device=extractor.device)
    used = pixels_used(table, current.recipe.class_list().names, peak_mb=peak.mb)
    ensemble, pixels = trained.ensemble, len(table.classes)
    size = f"{ensemble.members} MLPs on {pixels:,} pixels with {ensemble.inputs:,} features each."
    sentences = (size, used_sentence(used), *_sentences(trained, current.recipe))
    return _Found(ensemble, {"pixels": pixels, **used, **_findings(trained)}, sentences)


def _findings(trained: Trained) -> dict[str, Any]:
    """Return the held-out results for the bundle."""
    calibration = trained.calibration
    return {
        "kept_steps": None if trained.kept_steps is None else list(trained.kept_steps),
        "calibration": None if calibration is None else calibration.as_json(),
    }


def _sentences(trained: Trained, recipe: Recipe) -> list[str]:
    """Return sentences on the held-out results, or that there were none."""
    i, found = recipe.interpreter, []
    if trained.kept_steps is not None:
        steps = sorted(trained.kept_steps)
        found.append(f"Early stopping on held-out slides kept the weights of steps {steps[0]} to {steps[-1]}.")
    if trained.calibration is not None:
        found.append(trained.calibration.sentence())
    wanted = i.mode == "tuned" and (i.early_stopping or i.calibrate)
    if wanted and trained.kept_steps is None and trained.calibration is None:
        found.append(
            "No slide was held out, so there was no early stopping and no calibration: both need crops of "
            f"{MIN_SLIDES} slides, with each class on several."
        )
    return found


def _features(recipe: Recipe) -> FeatureSettings:
    """Return the feature settings, which a decoder or SegDiff does not need."""
    settings = recipe.feature_settings()
    return replace(settings, extractors=("ddpm",)) if recipe.interpreter.kind in ("decoder", "segdiff") else settings


def _origin(recipe: Recipe, train: tuple[LabelledCrop, ...], backbone: dict[str, object]) -> dict[str, Any]:
    """Return everything that determines the result, which for a student includes what determines its teacher."""
    kinds = {recipe.interpreter.kind, *([recipe.student.teacher] if recipe.interpreter.kind == "student" else [])}
    slides = recipe.decoder.unlabelled or ("student" in kinds and recipe.student.crops)
    return {
        "recipe": recipe.name,
        "backbone": backbone,
        "labels": {crop.crop: crop.label_sha256 for crop in train},
        "pictures": {crop.crop: [crop.slide, crop.image_sha256] for crop in train},
        "classes": list(recipe.class_list().names),
        "mpp": recipe.slides.mpp,
        "seed": recipe.training.seed,
        "precision": recipe.training.precision,
        "features": [
            list(recipe.taps()),
            list(recipe.feature_timesteps()),
            {key: value for key, value in recipe.section("features").items() if key != "memory_gb"},
        ],
        "encoder": WEIGHTS_SHA256 if "pretrained" in _features(recipe).extractors else None,
        "interpreter": recipe.section("interpreter"),
        "decoder": recipe.section("decoder") if "decoder" in kinds else None,
        "student": recipe.section("student") if "student" in kinds else None,
        "segdiff": recipe.section("segdiff") if recipe.interpreter.kind == "segdiff" else None,
        "unlabelled": unlabelled_inputs(recipe) if slides else None,
    }


def _made(current: Run) -> dict[str, Any]:
    """Return the generated pairs that a student is trained on, as part of its inputs; empty without any."""
    recipe = current.recipe
    if recipe.interpreter.kind != "student" or not recipe.student.made:
        return {}
    crops = generated_crops(current.folder, recipe.student.made, recipe.class_list())
    return {"made": {crop.crop: [crop.image_sha256, crop.label_sha256] for crop in crops}}


def _found_before(folder: Path, origin: dict[str, Any]) -> Bundle | None:
    """Load the saved bundle if it is intact and its inputs are unchanged."""
    try:
        bundle = load_bundle(folder)
    except CheckpointError:
        return None
    return bundle if all(bundle.origin.get(key) == value for key, value in origin.items()) else None


def _renew(bundle: Bundle, current: Run) -> None:
    """Update recipe values in a bundle that do not affect weights, such as colours."""
    recipe = current.recipe
    said = "The bundle is up to date: same backbone, labels and settings."
    renewed = replace(bundle, classes=recipe.class_list(), recipe=recipe.model_dump(mode="json"))
    if renewed != bundle:
        save_bundle(current.folder / BUNDLE, renewed)
        said += " Other values of the recipe were updated in it."
    say(said)


def _pixels(extractor: FeatureExtractor, train: tuple[LabelledCrop, ...], current: Run) -> PixelTable:
    recipe = current.recipe
    with progress("features", len(train)) as bar:
        table = gather_pixels(
            extractor,
            LabelledCrops(train),
            pixel_draw(recipe, recipe.training.seed),
            room=memory_limits(recipe, current.folder / BUNDLE.parent, device=extractor.device),
            on_crop=bar.update,
        )
    check_rows(table, [crop.crop for crop in train])
    return table


def _say_missing(train: Sequence[LabelledCrop], recipe: Recipe) -> None:
    """Report the classes without training pixels."""
    shown = {name for crop in train for name, pixels in crop.pixels.items() if pixels}
    for name in recipe.class_list().names:
        if name not in shown:
            say(f"No train pixel has the class '{name}': it will not be predicted. Annotate some, or remove the class.")


def _ensemble(table: PixelTable, train: tuple[LabelledCrop, ...], current: Run, *, device: torch.device) -> Trained:
    recipe = current.recipe
    log = MetricsLog(current.folder / "interpreter" / "metrics.jsonl")
    with progress("interpreters", recipe.interpreter.steps) as bar:

        def on_step(step: int, total: int, loss: float) -> None:
            bar.update_phase(f"loss {loss:.4f}", step, total)
            log.write({"step": step, "loss": round(loss, 6)})

        try:
            return train_ensemble(
                table,
                len(recipe.class_list()),
                slides=[crop.shown_slide for crop in train],
                settings=ensemble_settings(recipe, recipe.training.seed),
                device=device,
                on_step=on_step,
            )
        finally:
            log.close()
