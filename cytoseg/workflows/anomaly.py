"""Scoring slides for anomalies with a run's bundle and diffusion model."""

import contextlib
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.anomaly.outputs import AnomalyDestination, write_anomalies, write_counts
from cytoseg.anomaly.predictor import AnomalyPredictor
from cytoseg.anomaly.regions import FOLDER
from cytoseg.anomaly.scores import RANGES, TEXTURE, add_counts
from cytoseg.anomaly.thresholds import (
    ADVICE,
    THRESHOLDS,
    THRESHOLDS_FILE,
    NormalSlide,
    Thresholds,
    read_counts,
    read_thresholds,
    thresholds_of,
)
from cytoseg.classes import ClassList
from cytoseg.devices import pick_device
from cytoseg.diffusion.denoising_error import Denoiser
from cytoseg.errors import CytosegError, PredictionError, RecipeError, SlideError
from cytoseg.interpreter.bundle import EnsemblePredictor, load_bundle
from cytoseg.maps.map_spool import MapSpool
from cytoseg.predict.outputs import SlideFacts, is_done, other_slide
from cytoseg.predict.slide import MapJob, OnProgress, compute_maps
from cytoseg.predict.slide_task import SlideTask, readable_tissue
from cytoseg.recipe import Recipe
from cytoseg.slides.open import find_slides, open_slide
from cytoseg.terminal import one_by_one
from cytoseg.workflows.backbone import backbone_folder, refuse_without_denoising, run_backbone
from cytoseg.workflows.recorded_command import Run, refuse_other_mpp
from cytoseg.workflows.run_paths import BUNDLE
from cytoseg.workflows.slide_tasks import slide_task
from cytoseg.writing import clear_leftovers, write_atomically

NORMAL = "normal"
"""Folder of the counts of normal slides in it; no slide of this name is scored."""
_SCORING = 1  # to be changed whenever the same model would give other scores
OnRow = Callable[[int, int], None]
Watch = Callable[[str], contextlib.AbstractContextManager[OnProgress]]
"""From the name of a slide to a context that gives its progress callback."""


@dataclass(frozen=True)
class Scorer:
    """A run's networks, ready to score slides.

    Attributes:
        recipe: The recipe.
        run: The run folder.
        segment: The bundle.
        denoiser: The diffusion model.
        backbone: Hash of its weights.
        watch: Shows progress.
    """

    recipe: Recipe
    run: Path
    segment: EnsemblePredictor
    denoiser: Denoiser
    backbone: str
    watch: Watch

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.run / FOLDER

    def task(self, path: Path, out: Path) -> SlideTask:
        """Return the task of a slide; its provenance identifies the model, without the thresholds."""
        task = slide_task(path, recipe=self.recipe, bundle=self.run / BUNDLE, out=out, command="anomaly")
        kept = {key: value for key, value in task.provenance.items() if key != "objects"}
        return replace(task, provenance={**kept, "backbone": self.backbone, "scoring": _SCORING})


def load_scorer(current: Run, watch: Watch) -> Scorer:
    """Load the bundle and the diffusion model of a run.

    Raises:
        RecipeError: If the model works in a latent space, whose errors are not an image's, or the bundle was trained at
            another pixel size.
        CheckpointError: If one is missing or damaged, or the diffusion model cannot denoise.
    """
    recipe = current.recipe
    if recipe.space.is_latent:
        raise RecipeError(
            f"anomaly: takes a diffusion model of pixels, but the recipe has space.kind: {recipe.space.kind}. Use a "
            "recipe without the section space, in a separate run folder."
        )
    bundle = load_bundle(current.folder / BUNDLE)
    refuse_other_mpp(bundle.mpp, recipe, command="anomaly")
    refuse_without_denoising(backbone_folder(recipe, current.folder))
    unet, architecture, origin = run_backbone(recipe, current.folder)
    device = pick_device(recipe.training.device)
    if device.type == "cpu":
        tune_cpu_allocator()
    denoiser = Denoiser(unet.to(device), architecture, device)
    segment = EnsemblePredictor(bundle, device=device)
    return Scorer(recipe, current.folder, segment, denoiser, str(origin["sha256"]), watch)


def learn_thresholds(scorer: Scorer, slides: Sequence[Path]) -> Thresholds:
    """Score normal slides and save the thresholds; slides scored before are not scored again.

    Raises:
        SlideError: If a slide is damaged, or two have one name.
        PredictionError: If a slide has no tissue, or the results cannot be written.
    """
    tasks = [scorer.task(path, scorer.folder / NORMAL) for path in slides]
    _refuse_same_name(tasks)
    for task in one_by_one(tasks, "normal slides"):
        write = functools.partial(_write_counts, scorer.segment.classes, task.provenance)
        job = MapJob(task.folder, scorer.segment.classes, task.provenance, write, tuple(RANGES))
        _score(scorer, task, job, AnomalyPredictor(scorer.segment, scorer.denoiser))
    classes = scorer.segment.classes.names
    counts = [read_counts(task.folder, classes=len(classes)) for task in tasks]
    normal = tuple(
        NormalSlide(str(task.path.resolve()), int(own[TEXTURE].sum())) for task, own in zip(tasks, counts, strict=True)
    )
    found = Thresholds(classes, thresholds_of(add_counts(counts)), normal, _model_of(tasks[0]))
    _save(scorer.folder / THRESHOLDS, found)
    return found


def known_thresholds(scorer: Scorer, slide: Path) -> Thresholds:
    """Read the thresholds of the run.

    Args:
        scorer: The run's networks.
        slide: The first slide to score.

    Raises:
        PredictionError: If there are none, they are damaged, or come from another model or other settings.
    """
    found = read_thresholds(scorer.folder)
    if found is None:
        raise PredictionError(
            f"{slide.name}: cannot be scored, because this run has no normal slides yet. Name held-out normal "
            "slides with --normal SLIDE."
        )
    model = json.loads(json.dumps(_model_of(scorer.task(slide, scorer.folder))))
    if found.model != model:
        # A key may be missing on one side and null on the other.
        changed = next((key for key in (*model, *found.model) if found.model.get(key) != model.get(key)), "model")
        raise PredictionError(
            f"{scorer.folder / THRESHOLDS}: the thresholds were learned with a different {changed}. {ADVICE}"
        )
    if found.classes != scorer.segment.classes.names:
        raise PredictionError(f"{scorer.folder / THRESHOLDS}: the thresholds are those of other classes. {ADVICE}")
    return found


def score_slides(scorer: Scorer, slides: Sequence[Path], thresholds: Thresholds) -> list[tuple[SlideTask, str | None]]:
    """Score slides; one that fails does not stop the others.

    Returns:
        The task of each slide, and its error in one line or None.

    Raises:
        SlideError: If two slides would share a folder, or one is named like the folder of the normal slides.
    """
    side_px = scorer.recipe.crops.size_px
    decides = {"thresholds": thresholds.thresholds, "region_px": side_px}
    tasks = [_with(scorer.task(path, scorer.folder), decides) for path in slides]
    _refuse_same_name(tasks)
    predictor = AnomalyPredictor(scorer.segment, scorer.denoiser, thresholds)
    outcomes: list[tuple[SlideTask, str | None]] = []
    for task in one_by_one(tasks, "slides"):
        destination = AnomalyDestination(scorer.segment.classes, thresholds, side_px, task.provenance)
        write = functools.partial(_write_anomalies, destination)
        job = MapJob(task.folder, scorer.segment.classes, task.provenance, write, predictor.scores)
        try:
            _score(scorer, task, job, predictor)
            outcomes.append((task, None))
        except CytosegError as error:
            outcomes.append((task, str(error)))
    return outcomes


def trained_on(recipe: Recipe, slides: Sequence[Path]) -> list[str]:
    """Name the slides that the diffusion model was trained on, whose scores are too low for a threshold."""
    section = recipe.slides
    try:
        own = {
            path.resolve() for path in find_slides(section.folders, include=section.include, exclude=section.exclude)
        }
    except SlideError:
        return []  # the training slides are not on this machine
    return [path.name for path in slides if path.resolve() in own]


def _write_counts(
    classes: ClassList, provenance: Mapping[str, Any], folder: Path, facts: SlideFacts, spool: MapSpool, _on_row: OnRow
) -> None:
    write_counts(folder, classes, provenance, facts=facts, spool=spool)


def _write_anomalies(
    destination: AnomalyDestination, folder: Path, facts: SlideFacts, spool: MapSpool, _on_row: OnRow
) -> None:
    write_anomalies(folder, destination, facts=facts, spool=spool)


def _score(scorer: Scorer, task: SlideTask, job: MapJob, predictor: AnomalyPredictor) -> None:
    """Compute the maps of a slide unless it is done."""
    clear_leftovers(task.folder)
    if is_done(task.folder, task.provenance):
        return
    settings = task.settings
    if settings.batch is None:
        settings = replace(settings, batch=scorer.segment.tiles_at_once(settings.tile_px))
    with open_slide(task.path) as slide, scorer.watch(task.path.name) as on_progress:
        tissue = readable_tissue(task.path, task.background) if settings.skip_glass else None
        compute_maps(slide, predictor, job, settings=settings, tissue=tissue, on_progress=on_progress)


def _with(task: SlideTask, decides: Mapping[str, Any]) -> SlideTask:
    """Add to a task what else determines its result."""
    return replace(task, provenance={**task.provenance, **decides})


def _model_of(task: SlideTask) -> dict[str, Any]:
    """Return the part of a provenance that does not depend on the slide."""
    of_slide = ("slide_bytes", "slide_changed", "assume_mpp")
    return {key: value for key, value in task.provenance.items() if key not in of_slide}


def _refuse_same_name(tasks: Sequence[SlideTask]) -> None:
    names = [task.folder.name for task in tasks]
    for task in tasks:
        if names.count(task.folder.name) > 1:
            raise SlideError(f"anomaly: two slides of the name {task.folder.name} would share a folder. Rename one.")
        if task.folder.parent.name == FOLDER and task.folder.name == NORMAL:
            raise SlideError(f"{task.path.name}: a slide of this name would replace the normal slides. Rename it.")
        if other := other_slide(task.folder, task.path):
            raise SlideError(f"{task.folder}: holds the results of {other}. Delete it, or rename the slide.")


def _save(path: Path, thresholds: Thresholds) -> None:
    try:
        write_atomically(path, json.dumps(THRESHOLDS_FILE.content_of(thresholds), indent=1))
    except OSError as error:
        raise PredictionError(f"{path}: cannot be written ({error.strerror}). Free some space.") from error
