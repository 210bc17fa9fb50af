"""Tile service: layers and tiles of a run's slides."""

import os
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cytoseg.classes import ClassList
from cytoseg.errors import CytosegError, SlideError
from cytoseg.geometry import Region, Size, downsample_of
from cytoseg.labels.index import INDEX_NAME, load_index
from cytoseg.maps.raster import Raster
from cytoseg.predict.finished_maps import CLASS_MAP, UNCERTAINTY
from cytoseg.predict.summary import summary_of
from cytoseg.slides.handle_pool import HandlePool
from cytoseg.slides.open import open_slide, read_at
from cytoseg.slides.slide import Slide
from cytoseg.viewer.deep_zoom import TilePyramid, class_palette, jpeg, painted, ramp_palette
from cytoseg.viewer.layers import ClassLayer, TruthLayer, UncertaintyLayer, brightest_nats, placed_crops
from cytoseg.viewer.slide_catalogue import CatalogueEntry, check_still_there, is_predicted

SLIDE, CLASSES, DISAGREEMENT, TRUTH = "slide", "classes", "uncertainty", "truth"
_MAPS = {CLASSES: CLASS_MAP, DISAGREEMENT: UNCERTAINTY}
_KEPT = 32  # slides with cached constant facts
_SLACK_PX = 1.01


@dataclass(frozen=True)
class Subject:
    """The slide that is shown.

    Attributes:
        found: The slide.
        classes: Names and colours of the run's recipe.
        labels: The run's labels folder; need not exist.
        assumed_mpp: What the recipe assumes if the slide does not state its pixel size.
    """

    found: CatalogueEntry
    classes: ClassList
    labels: Path
    assumed_mpp: float | None = None


@dataclass(frozen=True)
class SlideView:
    """Facts about a slide for the viewer.

    Attributes:
        size: Size of level 0.
        mpp: Micrometres per level-0 pixel, or None if neither the slide nor the recipe states it.
        layers: Its layers among "classes", "uncertainty" and "truth".
        brightest: Upper end of the uncertainty colours in nats; None without uncertainty.
        version: Changes whenever a source file of the tiles changes.
        notes: Sentences about unreadable, omitted layers.
        is_assumed: Whether the pixel size is the recipe's.
    """

    size: Size
    mpp: float | None
    layers: tuple[str, ...]
    brightest: float | None
    version: str
    notes: tuple[str, ...]
    is_assumed: bool = False


class TileService:
    """Serves the layers and tiles of open slides and maps; thread-safe."""

    def __init__(self) -> None:
        self._slides: HandlePool[Slide] = HandlePool(open_slide)
        self._maps: HandlePool[Raster] = HandlePool(Raster)

    def describe(self, subject: Subject) -> SlideView:
        """Describe a slide and its layers.

        Raises:
            SlideError: If the slide is missing or unreadable; in one sentence without the path.
        """
        found = subject.found
        check_still_there(found)
        try:
            size, mpp, damage = _slide_facts(*_stamped(found.path))
        except CytosegError as error:
            raise SlideError(_without_folder(error, found.path.parent)) from error
        layers, brightest, notes = _maps_of(subject)
        try:
            truth = (TRUTH,) if _truth(subject, size).places else ()
        except CytosegError as error:
            truth, notes = (), (*notes, _without_folder(error, subject.labels))
        if damage:
            notes = (f"{found.path.name}: {damage}. The missing part cannot be shown.", *notes)
        is_assumed = mpp is None and subject.assumed_mpp is not None
        mpp = subject.assumed_mpp if is_assumed else mpp
        return SlideView(size, mpp, (*layers, *truth), brightest, _version(subject), notes, is_assumed)

    def tile(self, subject: Subject, layer: str, place: tuple[int, int, int], *, shown: Collection[int]) -> bytes:
        """Return a tile: a JPEG of the slide, or a PNG of another layer.

        Args:
            subject: The slide that is shown.
            layer: "slide", "classes", "uncertainty" or "truth".
            place: Step, column and row; see `TilePyramid`.
            shown: Ids of the classes to paint; not used for the slide and its uncertainty.

        Raises:
            CytosegError: If there is no such tile, or a file is missing or damaged.
        """
        path = subject.found.path
        check_still_there(subject.found)
        size, _, _ = _slide_facts(*_stamped(path))
        region, tile_size = TilePyramid(size).tile(*place)
        if layer == SLIDE:
            with self._slides.lend(path) as slide:
                picture = read_at(slide, region, tile_size)
            return jpeg(picture)
        if layer == TRUTH:
            values = _truth(subject, size).values(region, tile_size)
            return painted(values, class_palette(subject.classes, frozenset(shown)))
        return self._map_tile(subject, layer, (region, tile_size), shown)

    def close(self) -> None:
        """Close all files."""
        self._slides.close()
        self._maps.close()

    def _map_tile(self, subject: Subject, layer: str, tile: tuple[Region, Size], shown: Collection[int]) -> bytes:
        found = subject.found
        if found.prediction is None or layer not in _MAPS:
            raise SlideError(f"{found.path.name}: has no layer '{layer}'. Predict the slide first.")
        if unfit := _unfit(subject):
            raise SlideError(f"{found.path.name}: has no layer '{layer}'. {unfit}")
        path = map_file(found.prediction, _MAPS[layer])
        downsample = _downsample(found.path, found.prediction, path)
        if layer == CLASSES:
            with self._maps.lend(path) as raster:
                ids = ClassLayer(raster, downsample).values(*tile)
            return painted(ids, class_palette(subject.classes, frozenset(shown)))
        brightest = _brightest(*_stamped(path))
        with self._maps.lend(path) as raster:
            values = UncertaintyLayer(raster, downsample, brightest).values(*tile)
        return painted(values, ramp_palette())


def _maps_of(subject: Subject) -> tuple[tuple[str, ...], float | None, tuple[str, ...]]:
    """Find the layers of a prediction, the end of its colour range, and its problems."""
    found = subject.found
    if found.prediction is None:
        return (), None, ()
    if unfit := _unfit(subject):
        return (), None, (unfit,)
    try:
        for name in _MAPS.values():
            _downsample(found.path, found.prediction, map_file(found.prediction, name))
        return tuple(_MAPS), _brightest(*_stamped(map_file(found.prediction, UNCERTAINTY))), ()
    except CytosegError as error:
        return (), None, (_without_folder(error, found.prediction),)


def _truth(subject: Subject, size: Size) -> TruthLayer:
    path = subject.labels / INDEX_NAME
    if not os.path.isfile(path):  # unlike Path.is_file, this treats inaccessible files as missing
        return TruthLayer(())
    return _marked(subject.labels, path.stat().st_mtime_ns, subject.classes.names, subject.found.slide, size)


def _downsample(slide: Path, prediction: Path, path: Path) -> float:
    """Compute how many level-0 pixels of a slide one pixel of a map spans."""
    full, slide_mpp, _ = _slide_facts(*_stamped(slide))
    summary = summary_of(prediction)
    size, mpp = _map_size(*_stamped(path)), _positive(summary.mpp)
    own = slide_mpp or _positive(summary.provenance.get("assume_mpp"))
    downsample = mpp / own if mpp and own else downsample_of(full, size)
    # A map drops a fractional last pixel.
    if max(abs(full.width / downsample - size.width), abs(full.height / downsample - size.height)) > _SLACK_PX:
        raise SlideError(f"{path.name}: is {size.width}x{size.height} px, which does not match the slide.")
    return float(downsample)


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


@lru_cache(maxsize=_KEPT)
def _slide_facts(path: Path, written_ns: int) -> tuple[Size, float | None, str]:
    """Return a slide's size, mpp and damage."""
    with open_slide(path) as slide:
        return slide.levels[0].size, slide.mpp, slide.damage


@lru_cache(maxsize=_KEPT)
def _map_size(path: Path, written_ns: int) -> Size:
    with Raster(path) as raster:
        return raster.levels[0].size


@lru_cache(maxsize=_KEPT)
def _marked(labels: Path, written_ns: int, names: tuple[str, ...], slide: str, size: Size) -> TruthLayer:
    index = load_index(labels)
    # With other classes the ids would mean something else.
    return TruthLayer(placed_crops(index, slide, size) if index.classes == names else ())


@lru_cache(maxsize=_KEPT)
def _brightest(path: Path, written_ns: int) -> float:
    with Raster(path) as raster:
        return brightest_nats(raster)


def _stamped(path: Path) -> tuple[Path, int]:
    return path, path.stat().st_mtime_ns


def map_file(prediction: Path, name: str) -> Path:
    """Return the path of a file of a prediction.

    Raises:
        SlideError: If it is missing, a link, or outside the run folder.
    """
    path = prediction / name
    # A symlink here would show a file other than the predicted one.
    if path.is_symlink() or not path.is_file():
        raise SlideError(f"{path.name}: is missing. Predict the slide again.")
    run = prediction.parents[1]
    if not path.resolve().is_relative_to(run.resolve()):
        raise SlideError(f"{path.name}: points outside the run folder and is not shown. Predict the slide again.")
    return path


def _unfit(subject: Subject) -> str:
    """Explain why the prediction does not match the slide or the recipe's classes; empty if it does."""
    if subject.found.prediction is None:
        return ""
    summary = summary_of(subject.found.prediction)
    if not is_predicted(subject.found.path, summary):
        return "The slide file has changed since it was predicted. Predict it again."
    predicted = tuple(summary.classes)
    if predicted == subject.classes.names:
        return ""
    return f"It was predicted with different classes ({', '.join(predicted)}) from the recipe's. Predict it again."


def _version(subject: Subject) -> str:
    prediction = subject.found.prediction
    files = [subject.found.path, subject.labels / INDEX_NAME]
    files += [] if prediction is None else [prediction / name for name in _MAPS.values()]
    stamps = [path.stat().st_mtime_ns if os.path.exists(path) else 0 for path in files]
    return f"{zlib.crc32(repr((stamps, subject.classes)).encode()):08x}"


def _without_folder(error: CytosegError, folder: Path) -> str:
    return str(error).replace(f"{folder}/", "")
