"""One slide to predict as a task for any process or machine."""

import functools
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.devices import pick_device
from cytoseg.errors import CytosegError, SlideError
from cytoseg.geometry import best_level
from cytoseg.interpreter.bundle import EnsemblePredictor, load_bundle
from cytoseg.interrupts import errors_as_interrupt
from cytoseg.objects.settings import ObjectSettings
from cytoseg.predict.outputs import Destination, is_done
from cytoseg.predict.settings import SlideSettings
from cytoseg.predict.slide import OnProgress, predict_slide
from cytoseg.slides.open import open_slide
from cytoseg.slides.settings import BackgroundSection
from cytoseg.slides.slide import Slide
from cytoseg.slides.tissue_mask import MASK_PX, TissueMask, tissue_mask
from cytoseg.writing import clear_leftovers


@dataclass(frozen=True)
class SlideTask:
    """One slide to predict.

    Attributes:
        path: The slide.
        folder: Output folder.
        bundle: Folder of the bundle.
        settings: Tiles and resolution; without a batch, as many tiles at once as fit in memory.
        objects: Object settings; None for no objects.
        background: Background rule, where the settings skip glass.
        provenance: Everything that determines the result, see ``Destination``.
        device: Device name for ``pick_device``.
    """

    path: Path
    folder: Path
    bundle: Path
    settings: SlideSettings
    objects: ObjectSettings | None
    background: BackgroundSection
    provenance: Mapping[str, Any]
    device: str


@dataclass(frozen=True)
class Outcome:
    """Outcome of a task.

    Attributes:
        task: The task.
        error: The error in one line, or None.
        trace: Traceback of a bug.
        before: Whether the slide had already been predicted.
    """

    task: SlideTask
    error: str | None = None
    trace: str | None = None
    before: bool = False


def unwatched(_what: str, _done: int, _total: int) -> None:
    """Ignore progress."""


def attempt(task: SlideTask, on_progress: OnProgress = unwatched) -> Outcome:
    """Predict a slide unless it is done already; errors are returned, so that other slides continue.

    Args:
        task: The task.
        on_progress: As for ``predict_slide``.

    Raises:
        KeyboardInterrupt: After the current batch, when Ctrl-C was pressed.
    """
    try:
        clear_leftovers(task.folder)
        if is_done(task.folder, task.provenance):
            return Outcome(task, before=True)
        with errors_as_interrupt():
            _predict(task, on_progress)
    except CytosegError as error:
        return Outcome(task, str(error))
    except Exception as error:  # a bug with one slide of a thousand
        return Outcome(task, f"{task.path.name}: {type(error).__name__}: {error}", traceback.format_exc())
    return Outcome(task)


def _predict(task: SlideTask, on_progress: OnProgress) -> None:
    predictor = _predictor(task.bundle.resolve(), task.device, str(task.provenance["bundle"]))
    settings = task.settings
    if settings.batch is None:
        settings = replace(settings, batch=predictor.tiles_at_once(settings.tile_px))
    with open_slide(task.path) as slide:
        tissue = readable_tissue(task.path, task.background) if settings.skip_glass else None
        destination = Destination(
            task.folder,
            predictor.classes,
            task.provenance,
            objects=task.objects,
            origin=predictor.origin,
            uncertainty_bits=settings.uncertainty_bits,
        )
        predict_slide(slide, predictor, destination, settings=settings, tissue=tissue, on_progress=on_progress)


def readable_tissue(path: Path, background: BackgroundSection) -> TissueMask | None:
    """Compute the tissue mask; None, so that every tile is computed, if level 0 of the slide is damaged.

    So the rows above the damage are finished and kept, and the damage is reported where it is. A failing disk or too
    little memory do not count as damage: a later mask, and with it the resumed rows, would differ.

    Raises:
        SlideError: If the disk or memory fails, or a coarser level is damaged, which no tile would read.
    """
    with open_slide(path) as slide:  # reopened, because OpenSlide reads nothing after an error
        try:
            return tissue_mask(slide, background)
        except SlideError as error:
            passing = isinstance(error.__cause__, MemoryError) or getattr(error.__cause__, "errno", None) is not None
            if passing or _level_of_mask(slide) > 0:
                raise
            return None


def _level_of_mask(slide: Slide) -> int:
    full = slide.levels[0].size
    return best_level(slide.levels, max(full.width, full.height) / MASK_PX)


@functools.lru_cache(maxsize=1)
def _predictor(bundle: Path, device_name: str, _hashes: str) -> EnsemblePredictor:
    """Load a bundle once for all slides; its hashes detect a replaced bundle."""
    device = pick_device(device_name)
    if device.type == "cpu":
        tune_cpu_allocator()
    return EnsemblePredictor(load_bundle(bundle), device=device)
