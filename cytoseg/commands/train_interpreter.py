"""``cytoseg train-interpreter``: MLPs, decoder, student or SegDiff."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.devices import pick_device
from cytoseg.features.extract import FeatureExtractor
from cytoseg.interpreter.bundle import Bundle, Interpreter, save_bundle
from cytoseg.interpreter.train_mlps import check_two_classes
from cytoseg.labels.index import LabelledCrop
from cytoseg.recipe import Recipe
from cytoseg.runs import versions
from cytoseg.terminal import say
from cytoseg.workflows.backbone import backbone_folder, interpreter_backbone, needs_backbone
from cytoseg.workflows.bundle_inputs import generated_inputs, interpreter_features, training_inputs, up_to_date_bundle
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.memory_option import parse_memory
from cytoseg.workflows.new_bundle import new_bundle
from cytoseg.workflows.object_size import size_advice
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, Run, alone_in, start_run
from cytoseg.workflows.run_paths import BUNDLE, TEACHER
from cytoseg.workflows.source_overlap import refuse_sources_of_own
from cytoseg.workflows.train_mlps import train_run_mlps
from cytoseg.workflows.train_segdiff import train_run_segdiff
from cytoseg.workflows.train_student import train_run_student
from cytoseg.workflows.tune_decoder import tune_run_decoder

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
        train = split_of(current.recipe).train  # before the weights, which take longer to load
        check_two_classes(name for crop in train for name, pixels in crop.pixels.items() if pixels)
        unet, architecture, backbone = interpreter_backbone(current.recipe, current.folder)
        refuse_sources_of_own(current.recipe)
        origin = {**training_inputs(current.recipe, train, backbone), **generated_inputs(current)}
        found = up_to_date_bundle(current.folder / BUNDLE, origin)
        if found is not None:
            _renew(found, current)
            return
        extractor = FeatureExtractor(
            unet,
            architecture,
            interpreter_features(current.recipe),
            device=device,
            precision=current.recipe.training.precision,
        )
        _say_missing(train, current.recipe)
        if needs_backbone(current.recipe):
            maps = (crop.label_map() for crop in train)
            if advice := size_advice(current.recipe, maps, backbone_folder(current.recipe, current.folder)):
                say(advice)
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
    details: dict[str, Any] = {}
    sentences: tuple[str, ...] = ()
    interpreter: Interpreter
    if recipe.interpreter.kind == "student":
        teacher = _teacher(extractor, train, current, backbone=origin["backbone"])
        interpreter = train_run_student(teacher, train, current, origin=origin, device=extractor.device)
    elif recipe.interpreter.kind == "segdiff":
        interpreter = train_run_segdiff(train, current, origin=origin, device=extractor.device)
    elif recipe.interpreter.kind == "decoder":
        interpreter = tune_run_decoder(extractor.unet, train, current, origin=origin, device=extractor.device)
    else:
        trained = train_run_mlps(extractor, train, current)
        interpreter, details, sentences = trained.ensemble, trained.details, trained.sentences
    seconds = time.perf_counter() - begin
    origin = {**origin, **details, "train_seconds": round(seconds, 1), "versions": versions()}
    bundle = new_bundle(interpreter, extractor, recipe, origin)
    save_bundle(current.folder / place, bundle)
    current.entry.update(train_crops=len(train), **details)
    say(f"Trained on {len(train)} crops in {seconds:.0f} s.")
    for sentence in sentences:
        say(sentence)
    return bundle


def _teacher(
    extractor: FeatureExtractor, train: tuple[LabelledCrop, ...], current: Run, *, backbone: dict[str, object]
) -> Bundle:
    """Return the student's teacher: an existing one with the same inputs, or a new one."""
    recipe = current.recipe
    kind = replace(recipe.interpreter, kind=recipe.student.teacher)
    as_teacher = replace(current, recipe=recipe.model_copy(update={"interpreter": kind}))
    origin = training_inputs(as_teacher.recipe, train, backbone)
    found = up_to_date_bundle(current.folder / TEACHER, origin)
    if found is not None:
        say("The teacher is up to date.")
        return found
    return _train(extractor, train, current=as_teacher, origin=origin, place=TEACHER)


def _renew(bundle: Bundle, current: Run) -> None:
    """Update recipe values in a bundle that do not affect weights, such as colours."""
    recipe = current.recipe
    said = "The bundle is up to date: same backbone, labels and settings."
    renewed = replace(bundle, classes=recipe.class_list(), recipe=recipe.model_dump(mode="json"))
    if renewed != bundle:
        save_bundle(current.folder / BUNDLE, renewed)
        said += " Other values of the recipe were updated in it."
    say(said)


def _say_missing(train: Sequence[LabelledCrop], recipe: Recipe) -> None:
    """Report the classes without training pixels."""
    shown = {name for crop in train for name, pixels in crop.pixels.items() if pixels}
    for name in recipe.class_list().names:
        if name not in shown:
            say(f"No train pixel has the class '{name}': it will not be predicted. Annotate some, or remove the class.")
