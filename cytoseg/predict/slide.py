"""Predicting a whole slide tile by tile, with resuming."""

import contextlib
import functools
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.errors import PredictionError, SlideError
from cytoseg.geometry import Size
from cytoseg.interrupts import Interrupt, finish_step_on_interrupt
from cytoseg.maps.map_spool import MapBand, MapSpool
from cytoseg.predict.outputs import Destination, SlideFacts, is_whole, write_outputs
from cytoseg.predict.settings import SlideSettings
from cytoseg.predict.summary import SUMMARY_NAME
from cytoseg.predict.tile_batches import TilePlace, count_tiles_left, tile_batches
from cytoseg.slides.open import read_at
from cytoseg.slides.prefetch import map_in_thread
from cytoseg.slides.resolution import downsample_to
from cytoseg.slides.slide import Slide
from cytoseg.slides.stitching import Patch, Stitcher
from cytoseg.slides.tiling import Tile, TileGrid
from cytoseg.slides.tissue_mask import TissueMask
from cytoseg.writing import resumable

Predictor = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]
"""From (N, tile_px, tile_px, 3) uint8 RGB to ``probabilities``, (N, K, tile_px, tile_px) float32 of K classes, and
``disagreement``, (N, tile_px, tile_px) float32 in nats; other maps of that shape by the names of ``MapJob.scores``."""

OnProgress = Callable[[str, int, int], None]
"""Called with what is counted, how many are done, and the total."""

WriteMaps = Callable[[Path, SlideFacts, MapSpool, Callable[[int, int], None]], None]
"""Writes what is made of the finished maps into a folder, the summary last; called with the folder, the facts, the maps
and a callback for the rows done and their total."""

_OURS = (SUMMARY_NAME, "*.ome.tif")
"""Files that tell the results of a slide from other folders of its name."""


@dataclass(frozen=True)
class MapJob:
    """What is computed of a slide, and what becomes of it.

    Attributes:
        folder: Output folder, replaced atomically at the end.
        classes: Names of the ids.
        provenance: Everything that determines the result, as JSON.
        write: Writes the results.
        scores: Names of further maps that the predictor returns.
    """

    folder: Path
    classes: ClassList
    provenance: Mapping[str, Any]
    write: WriteMaps
    scores: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Inputs:
    """Inputs of the maps."""

    slide: Slide
    predictor: Predictor
    classes: ClassList
    grid: TileGrid
    batch: int
    tissue: TissueMask | None
    scores: tuple[str, ...]

    def shows_tissue(self, tile: Tile) -> bool:
        return self.tissue is None or self.tissue.covers(tile.region) > 0


@dataclass(frozen=True)
class _ReadBatch:
    """Neighbouring tiles of a row, and the images of those with tissue, (N, tile_px, tile_px, 3); None if none."""

    places: Sequence[TilePlace]
    pictures: NDArray[np.uint8] | None


@dataclass(frozen=True)
class _PredictedTile:
    """A tile with its maps, (K + 1 + S, tile_px, tile_px): probabilities, disagreement, scores; None for glass."""

    place: TilePlace
    maps: NDArray[np.float32] | None


@dataclass
class _Progress:
    """Counts tiles, reports progress, and stops between two batches when asked to."""

    total: int
    on_tile: Callable[[int, int], None]
    interrupt: Interrupt
    done: int = 0
    computing_s: float = 0.0

    def advance(self, count: int) -> None:
        self.done += count
        self.on_tile(self.done, self.total)
        if self.interrupt.requested:
            raise KeyboardInterrupt


def predict_slide(
    slide: Slide,
    predictor: Predictor,
    destination: Destination,
    *,
    settings: SlideSettings,
    tissue: TissueMask | None,
    on_progress: OnProgress,
) -> None:
    """Predict class and uncertainty of each pixel of a slide; write the maps, the objects, a preview and a summary.

    The results replace earlier ones atomically at the end; after any error or Ctrl-C the earlier ones are unchanged.
    Finished rows are kept beside them, and the next call with the same provenance resumes there, with byte-identical
    maps.

    Farther from all tile borders than the receptive field of the predictor, the maps agree within 1e-5 with those of
    the slide predicted whole. Near a border a tile lacks context, and blending gives most of the weight to its
    neighbour; a wider overlap reduces the difference. A network with attention has the whole tile as its receptive
    field; ``tests/benchmarks/tile_placement.py`` measures the small effect.

    Args:
        slide: An open slide.
        predictor: Computes the maps of a batch of tiles; called in this thread.
        destination: Folder, classes and provenance.
        settings: Tiles and resolution; without a batch tiles are computed one by one.
        tissue: Tiles without tissue are skipped. Pixels in no computed tile become the fill class (or ignore) with
            uncertainty 0. None computes every tile.
        on_progress: Called with ``tiles``, the number done including glass, and the total; then with ``objects``, the
            rows of the object search done, and the total.

    Raises:
        SlideError: If the slide is damaged, or does not state its mpp and one is required.
        PredictionError: If the results cannot be written, another process is writing them, or the predictor returns
            non-finite values.
        KeyboardInterrupt: After the current batch, when Ctrl-C was pressed.
    """

    def write(part: Path, facts: SlideFacts, spool: MapSpool, on_row: Callable[[int, int], None]) -> None:
        write_outputs(part, destination, facts=facts, spool=spool, on_row=on_row)

    job = MapJob(destination.folder, destination.classes, destination.provenance, write)
    compute_maps(slide, predictor, job, settings=settings, tissue=tissue, on_progress=on_progress)


def compute_maps(
    slide: Slide,
    predictor: Predictor,
    job: MapJob,
    *,
    settings: SlideSettings,
    tissue: TissueMask | None,
    on_progress: OnProgress,
) -> None:
    """Compute maps of a whole slide and hand them to ``job.write``, as ``predict_slide`` does for a segmentation.

    Args:
        slide: As for ``predict_slide``, like the arguments below.
        predictor: Computes the maps of a batch of tiles.
        job: What to compute, and how the maps are written.
        settings: Tiles and resolution.
        tissue: Tiles without tissue are skipped, with 0 for all scores.
        on_progress: As for ``predict_slide``.

    Raises:
        SlideError: As for ``predict_slide``.
        PredictionError: Likewise.
        KeyboardInterrupt: Likewise.
    """
    begin = time.perf_counter()
    downsample = downsample_to(settings.mpp, slide, assume_mpp=settings.assume_mpp)
    grid = TileGrid(slide.levels[0].size, settings.tile_px, settings.overlap_px, downsample)
    inputs = _Inputs(slide, predictor, job.classes, grid, settings.batch or 1, tissue, job.scores)
    mpp = settings.mpp or slide.mpp or settings.assume_mpp
    with resumable(job.folder, job.provenance, error=PredictionError, ours=_OURS) as part:
        spool = MapSpool(part, size=grid.size, scores=job.scores)
        if not is_whole(part):  # the case if a kill came after the last file
            computing_s = _fill(spool, inputs, functools.partial(on_progress, "tiles"))
            glass = sum(not inputs.shows_tissue(tile) for row in grid.rows() for tile in row)
            note = ", ".join(filter(None, (slide.note, slide.damage, _unscaled(settings, slide))))
            facts = SlideFacts(slide, grid, mpp, note, glass_tiles=glass, computing_s=computing_s, begin=begin)
            job.write(part, facts, spool, functools.partial(on_progress, "objects"))
        spool.remove()


def _unscaled(settings: SlideSettings, slide: Slide) -> str:
    """Return the note that a slide was not resampled because the bundle has no mpp, if that may be wrong."""
    found = slide.mpp or settings.assume_mpp
    if settings.mpp or not found:
        return ""
    return f"read at its full resolution of {found:.4g} µm per pixel because the bundle does not specify one"


def _fill(spool: MapSpool, inputs: _Inputs, on_tile: Callable[[int, int], None]) -> float:
    """Compute the missing rows of the maps; return the seconds spent in the predictor."""
    try:
        with finish_step_on_interrupt() as interrupt:
            done = len(inputs.grid) - count_tiles_left(inputs.grid, top=spool.rows)
            on_tile(done, len(inputs.grid))  # so that loading the networks does not count as work on the tiles
            progress = _Progress(len(inputs.grid), on_tile, interrupt, done)
            _compute_rows(spool, inputs, progress)
    except SlideError as error:
        if not spool.rows:
            spool.remove()
            raise SlideError(f"{error} Nothing was kept.") from error
        kept = f"{spool.rows} of {inputs.grid.size.height} rows are finished and were kept"
        raise SlideError(f"{error} {kept}.") from error
    return progress.computing_s


def _compute_rows(spool: MapSpool, inputs: _Inputs, progress: _Progress) -> None:
    """Read, predict, stitch and write batch by batch, after the finished rows.

    One thread reads ahead, another stitches and writes; this one predicts, because only the main thread keeps its
    memory from one tile to the next.
    """
    batches = tile_batches(inputs.grid, top=spool.rows, batch=inputs.batch, shows_tissue=inputs.shows_tissue)
    with (
        contextlib.closing(_Stitching(spool, inputs.grid, inputs.classes, inputs.scores)) as stitching,
        contextlib.closing(map_in_thread(functools.partial(_read, inputs), batches)) as read,
        contextlib.closing(_predict(inputs, read, progress)) as predicted,
        contextlib.closing(map_in_thread(stitching.add, predicted)) as written,
    ):
        for count in written:
            progress.advance(count)


def _read(inputs: _Inputs, batch: Sequence[TilePlace]) -> _ReadBatch:
    """Read the tiles of a batch that show tissue."""
    side, pictures = inputs.grid.tile_px, []
    for place in batch:
        if not place.has_tissue:
            continue
        region = place.tile.region
        try:
            pictures.append(read_at(inputs.slide, region, Size(side, side)))
        except SlideError as error:
            where = f"tile at x {region.x}, y {region.y} of level 0"
            raise SlideError(f"{inputs.slide.path.name}, {where}: {error}") from error
    return _ReadBatch(batch, np.stack(pictures) if pictures else None)


def _predict(
    inputs: _Inputs, read: Iterable[_ReadBatch], progress: _Progress
) -> Generator[list[_PredictedTile], None, None]:
    """Compute the maps batch by batch."""
    for batch in read:
        begin = time.perf_counter()
        maps = iter(() if batch.pictures is None else _predict_batch(inputs, batch.places, batch.pictures))
        progress.computing_s += time.perf_counter() - begin
        yield [_PredictedTile(place, next(maps) if place.has_tissue else None) for place in batch.places]


def _predict_batch(inputs: _Inputs, places: Sequence[TilePlace], pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute probabilities, disagreement and scores of some tiles, (N, K + 1 + S, H, W)."""
    side, count = inputs.grid.tile_px, len(pictures)
    maps = inputs.predictor(pictures)
    probabilities, disagreement = maps["probabilities"], maps["disagreement"]
    scores = [maps[name] for name in inputs.scores]
    wanted = (count, len(inputs.classes), side, side)
    if probabilities.shape != wanted or any(part.shape != (count, side, side) for part in (disagreement, *scores)):
        raise ValueError(
            f"the predictor gave probabilities {probabilities.shape} and disagreement {disagreement.shape} "
            f"for {count} tiles of {side} px and {len(inputs.classes)} classes."
        )
    joined = np.concatenate([probabilities, *(part[:, None] for part in (disagreement, *scores))], axis=1)
    if not np.isfinite(joined).all():
        first = next(place.tile for place in places if place.has_tissue)
        raise PredictionError(
            f"{inputs.slide.path.name}: the prediction contains NaN or infinite values, in a tile from x {first.x}, "
            f"y {first.y} on. The interpreters are probably damaged: run train-interpreter again."
        )
    return joined


class _Stitching:
    """Blends the maps of tiles and writes the finished parts of the slide's maps.

    Args:
        spool: The maps of the slide.
        grid: Its tiles.
        classes: The class list.
        scores: Names of the further maps.
    """

    def __init__(self, spool: MapSpool, grid: TileGrid, classes: ClassList, scores: tuple[str, ...]) -> None:
        self._spool, self._width, self._classes, self._scores = spool, grid.size.width, classes, scores
        self._top = spool.rows
        self._waiting = spool.folder / "waiting.raw"
        sides = {"tile_px": grid.tile_px, "overlap_px": grid.overlap_px}
        self._stitcher = Stitcher(grid.size, channels=len(classes) + 1 + len(scores), **sides, waiting=self._waiting)

    def add(self, tiles: Sequence[_PredictedTile]) -> int:
        """Add the next tiles in the order of ``tile_batches``; return their number."""
        for tile in tiles:
            self._add_tile(tile.place, tile.maps)
        return len(tiles)

    def close(self) -> None:
        """Delete the unfinished rows; resuming recomputes them."""
        self._waiting.unlink(missing_ok=True)

    def _add_tile(self, place: TilePlace, maps: NDArray[np.float32] | None) -> None:
        if place.is_first_of_row:
            self._stitcher.begin_row(place.tile.y, below=place.below)
        patch = self._stitcher.add(maps, right=place.right)
        is_new = place.below > self._top
        if is_new:
            self._spool.write(_finished(patch, self._classes, self._scores), x=patch.x, y=patch.y)
        if place.right == self._width and is_new:
            self._spool.finish(place.below)


def _finished(patch: Patch, classes: ClassList, scores: tuple[str, ...]) -> MapBand:
    count, glass = len(classes), ~patch.covered
    probabilities = patch.maps[:count]
    ids = probabilities.argmax(axis=0).astype(np.uint8)
    confidence = np.clip(np.rint(255 * probabilities.max(axis=0)), 1, 255).astype(np.uint8)
    ids[glass], confidence[glass] = classes.fill_id, 0
    return MapBand(ids, patch.maps[count], confidence, dict(zip(scores, patch.maps[count + 1 :], strict=True)))
