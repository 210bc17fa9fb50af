"""One slide to predict, with all it takes, so that any process on any machine that sees the files can do it."""

import functools
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cytoseg.devices import pick_device, tune_cpu_allocator
from cytoseg.errors import CytosegError, SlideError
from cytoseg.geometry import best_level
from cytoseg.interpreter.bundle import EnsemblePredictor, load_bundle
from cytoseg.objects.settings import ObjectSettings
from cytoseg.predict.outputs import Destination, is_done
from cytoseg.predict.slide import OnProgress, SlideSettings, predict_slide
from cytoseg.slides.background import MASK_PX, TissueMask, tissue_mask
from cytoseg.slides.open import open_slide
from cytoseg.slides.slide import Slide
from cytoseg.writing import clear_leftovers


@dataclass(frozen=True)
class SlideTask:
    """One slide to predict.

    Attributes:
        path: The slide.
        folder: Where the results go.
        bundle: Folder of the bundle.
        settings: Tiles and resolution; a batch of 0 is as many tiles as there is room for.
        objects: What counts as an object; None finds none.
        glass: Rule and threshold of ``tissue_mask``, by which glass is skipped; None computes every tile.
        provenance: All that decides the result, see ``Destination``.
        device: Where to compute, as ``pick_device`` knows it.
        uncertainty_bits: Of a value of the uncertainty map, see ``Destination``.
    """

    path: Path
    folder: Path
    bundle: Path
    settings: SlideSettings
    objects: ObjectSettings | None
    glass: tuple[str, float] | None
    provenance: Mapping[str, Any]
    device: str
    uncertainty_bits: int = 32


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        task: The task.
        error: What went wrong, in one line, or None.
        trace: Where, if it is a mistake of ours.
        before: Whether the slide had been done before.
    """

    task: SlideTask
    error: str | None = None
    trace: str | None = None
    before: bool = False


def unwatched(_what: str, _done: int, _total: int) -> None:
    """Nobody wants to know how far it is."""


def attempt(task: SlideTask, on_progress: OnProgress = unwatched) -> Outcome:
    """Predict a slide, unless that was done before; what goes wrong is reported, so that other slides can go on.

    Args:
        task: What to do.
        on_progress: As for ``predict_slide``.

    Raises:
        KeyboardInterrupt: After the current batch, when Ctrl-C was pressed.
    """
    try:
        clear_leftovers(task.folder)
        if is_done(task.folder, task.provenance):
            return Outcome(task, before=True)
        _predict(task, on_progress)
    except CytosegError as error:
        return Outcome(task, str(error))
    except Exception as error:  # a mistake of ours with one slide of a thousand
        return Outcome(task, f"{task.path.name}: {type(error).__name__}: {error}", traceback.format_exc())
    return Outcome(task)


def _predict(task: SlideTask, on_progress: OnProgress) -> None:
    predictor = _predictor(task.bundle.resolve(), task.device, str(task.provenance["bundle"]))
    settings = task.settings
    if settings.batch == 0:
        settings = replace(settings, batch=predictor.tiles_at_once(settings.tile_px))
    with open_slide(task.path) as slide:
        tissue = None if task.glass is None else _readable_tissue(task.path, *task.glass)
        destination = Destination(
            task.folder,
            predictor.classes,
            task.provenance,
            objects=task.objects,
            origin=predictor.origin,
            uncertainty_bits=task.uncertainty_bits,
        )
        predict_slide(slide, predictor, destination, settings=settings, tissue=tissue, on_progress=on_progress)


def _readable_tissue(path: Path, rule: str, threshold: float) -> TissueMask | None:
    """Find the tissue; None, by which every tile is computed, if level 0 of the slide is damaged.

    So the rows above the damage are finished and kept, and the damage is met and named where it is. A disk that fails
    and memory that ends are no damage: later the mask would be another, and with it the rows that are gone on with.

    Raises:
        SlideError: If the disk or memory fails, or a coarser level is damaged, which no tile would meet.
    """
    with open_slide(path) as slide:  # once more, for OpenSlide reads nothing after an error
        try:
            return tissue_mask(slide, rule=rule, threshold=threshold)
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
    """Load a bundle once for all slides; what decides its results tells another one in its place apart."""
    device = pick_device(device_name)
    if device.type == "cpu":
        tune_cpu_allocator()
    return EnsemblePredictor(load_bundle(bundle), device=device)
