"""Predicting a whole slide tile by tile, in memory for one row of tiles, from where an interruption left it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.errors import PredictionError, SlideError
from cytoseg.geometry import Size
from cytoseg.predict.ahead import ahead
from cytoseg.predict.maps import MapBand, MapSpool
from cytoseg.predict.outputs import Destination, SlideFacts, is_whole, write_outputs
from cytoseg.runs import Interrupt, finish_step_on_interrupt
from cytoseg.slides.background import TissueMask
from cytoseg.slides.crops import downsample_to
from cytoseg.slides.open import read_at
from cytoseg.slides.slide import Slide
from cytoseg.slides.stitching import Stitcher
from cytoseg.slides.tiling import Tile, TileGrid
from cytoseg.writing import resumable

Predictor = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]
"""Takes (N, tile_px, tile_px, 3) uint8 RGB; gives ``probabilities``, (N, K, tile_px, tile_px) float32 of K classes,
and ``disagreement``, (N, tile_px, tile_px) float32 in nats."""


@dataclass(frozen=True)
class SlideSettings:
    """How a slide is cut into tiles.

    Attributes:
        tile_px: Side of a tile.
        overlap_px: Pixels that neighbours share, at most half a tile.
        batch: Tiles computed together.
        mpp: Micrometres per pixel of the tiles and of the class map, or None for level 0 as it is.
        assume_mpp: Micrometres per level-0 pixel of a slide that does not say.
    """

    tile_px: int
    overlap_px: int
    batch: int
    mpp: float | None
    assume_mpp: float | None


@dataclass(frozen=True)
class _Job:
    slide: Slide
    predictor: Predictor
    classes: ClassList
    grid: TileGrid
    batch: int
    tissue: TissueMask | None

    def with_tissue(self, row: Sequence[Tile]) -> list[Tile]:
        """Leave out the tiles that show glass alone."""
        return [tile for tile in row if self.tissue is None or self.tissue.covers(tile.region) > 0]


@dataclass(frozen=True)
class _Batch:
    """Some tiles of one row, none where all are glass; ``passed`` counts those of the row that are over with it."""

    y: int
    tiles: tuple[Tile, ...]
    passed: int


@dataclass
class _Progress:
    """Counts tiles, tells whoever watches, and stops between two batches when asked to."""

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
    on_tile: Callable[[int, int], None],
) -> None:
    """Predict class and uncertainty of each pixel of a slide; write both maps, a preview and a summary.

    The results replace earlier ones all at once at the end; after any error or Ctrl-C these are as they were. What is
    finished by then is kept beside them, and the next call with the same provenance goes on from there: the maps come
    out the same, byte by byte.

    Args:
        slide: An open slide.
        predictor: Computes the maps of a batch of tiles; called by another thread.
        destination: Folder, classes and provenance.
        settings: Tiles and resolution.
        tissue: Tiles that hold none are not computed. What no computed tile reaches becomes the fill class (or ignore)
            with uncertainty 0. None computes every tile.
        on_tile: Called with the number of tiles done, glass included, and their total.

    Raises:
        SlideError: If the slide is damaged, or does not say its mpp and one is asked for.
        PredictionError: If the results cannot be written, another process is writing them, or the predictor gives
            numbers that are not finite.
        KeyboardInterrupt: After the current batch, when Ctrl-C was pressed.
    """
    begin = time.perf_counter()
    downsample = downsample_to(settings.mpp, slide, assume_mpp=settings.assume_mpp)
    grid = TileGrid(slide.levels[0].size, settings.tile_px, settings.overlap_px, downsample)
    job = _Job(slide, predictor, destination.classes, grid, settings.batch, tissue)
    mpp = settings.mpp or slide.mpp or settings.assume_mpp
    with resumable(destination.folder, destination.provenance, error=PredictionError) as part:
        spool = MapSpool(part, width=grid.size.width)
        if not is_whole(part):  # it is, if a kill came after the last file
            computing_s = _fill(spool, job, on_tile)
            glass = len(grid) - sum(len(job.with_tissue(row)) for row in grid.rows())
            facts = SlideFacts(slide, grid, mpp, glass_tiles=glass, computing_s=computing_s, begin=begin)
            write_outputs(part, destination, facts=facts, spool=spool)
        spool.remove()


def _fill(spool: MapSpool, job: _Job, on_tile: Callable[[int, int], None]) -> float:
    """Compute the rows that the maps lack; gives the seconds that the predictor took."""
    top, height = spool.rows, job.grid.size.height
    spool.cut(top)
    try:
        with finish_step_on_interrupt() as interrupt:
            progress = _Progress(len(job.grid), on_tile, interrupt)
            for band in _bands(job, progress, top=top):
                spool.append(band)
    except SlideError as error:
        kept = f"{spool.rows} of {height} rows are finished and kept" if spool.rows else "nothing was finished"
        raise SlideError(f"{error} {kept}.") from error
    return progress.computing_s


def _bands(job: _Job, progress: _Progress, *, top: int) -> Iterator[MapBand]:
    """Compute row after row of tiles, and give the rows of pixels from ``top`` on that no later tile can change."""
    grid, fill_id = job.grid, job.classes.fill_id
    # A row of tiles counts from its first pixel row on, so those that reach below the top are computed anew.
    rows = [row for row in grid.rows() if row[0].y + grid.tile_px > top]
    if top >= grid.size.height:
        rows = []
    progress.done = len(grid) - sum(map(len, rows))
    if not rows:
        return
    sides = {"tile_px": grid.tile_px, "overlap_px": grid.overlap_px}
    stitcher = Stitcher(grid.size, channels=len(job.classes) + 1, **sides, top=rows[0][0].y)

    def predicted(batch: tuple[_Batch, NDArray[np.uint8] | None]) -> tuple[_Batch, NDArray[np.float32] | None]:
        begin = time.perf_counter()
        found = None if batch[1] is None else _predicted(job, batch[0], batch[1])
        progress.computing_s += time.perf_counter() - begin
        return batch[0], found

    # One thread reads, one computes, and this one stitches and writes.
    for batch, maps in ahead(predicted, ahead(lambda batch: (batch, _read(job, batch)), _batches(job, rows))):
        if batch.y > stitcher.top:
            yield from _finished(stitcher, batch.y, top=top, fill_id=fill_id)
        for tile, its_maps in zip(batch.tiles, () if maps is None else maps, strict=True):
            stitcher.add(its_maps, x=tile.x, y=tile.y)
        progress.advance(batch.passed)
    yield from _finished(stitcher, grid.size.height, top=top, fill_id=fill_id)


def _batches(job: _Job, rows: Sequence[Sequence[Tile]]) -> Iterator[_Batch]:
    for row in rows:
        tiles = job.with_tissue(row)
        for first in range(0, len(tiles), job.batch):
            batch = tuple(tiles[first : first + job.batch])
            yield _Batch(row[0].y, batch, len(batch))
        if len(tiles) < len(row):
            yield _Batch(row[0].y, (), len(row) - len(tiles))


def _read(job: _Job, batch: _Batch) -> NDArray[np.uint8] | None:
    """Read the tiles of a batch, (N, tile_px, tile_px, 3); None where there are none."""
    side, pictures = job.grid.tile_px, []
    for tile in batch.tiles:
        try:
            pictures.append(read_at(job.slide, tile.region, Size(side, side)))
        except SlideError as error:
            place = f"tile at x {tile.region.x}, y {tile.region.y} of level 0"
            raise SlideError(f"{job.slide.path.name}, {place}: {error}") from error
    return np.stack(pictures) if pictures else None


def _predicted(job: _Job, batch: _Batch, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the probabilities and, as the last channel, the disagreement of some tiles, (N, K + 1, H, W)."""
    side, tiles = job.grid.tile_px, batch.tiles
    maps = job.predictor(pictures)
    probabilities, disagreement = maps["probabilities"], maps["disagreement"]
    wanted = (len(tiles), len(job.classes), side, side)
    if probabilities.shape != wanted or disagreement.shape != (len(tiles), side, side):
        raise ValueError(
            f"the predictor gave probabilities {probabilities.shape} and disagreement {disagreement.shape} "
            f"for {len(tiles)} tiles of {side} px and {len(job.classes)} classes."
        )
    joined = np.concatenate([probabilities, disagreement[:, None]], axis=1)
    if not np.isfinite(joined).all():
        raise PredictionError(
            f"{job.slide.path.name}: the prediction holds numbers that are not finite, in a tile from x {tiles[0].x}, "
            f"y {tiles[0].y} on. The interpreters are probably damaged: run train-interpreter again."
        )
    return joined


def _finished(stitcher: Stitcher, below: int, *, top: int, fill_id: int) -> Iterator[MapBand]:
    """Take the rows above ``below`` from the stitcher, and give those from ``top`` on."""
    first = stitcher.top
    maps, covered = stitcher.finish(below)
    if below > top:
        wanted = slice(max(0, top - first), None)
        yield _band(maps[:, wanted], covered[wanted], fill_id=fill_id)


def _band(maps: NDArray[np.float32], covered: NDArray[np.bool_], *, fill_id: int) -> MapBand:
    # Row by row, because argmax takes eight bytes a pixel.
    ids = np.stack([row.argmax(axis=0).astype(np.uint8) for row in maps[:-1].swapaxes(0, 1)])
    ids[~covered] = fill_id
    confidence = np.clip(np.rint(255 * maps[:-1].max(axis=0)), 1, 255).astype(np.uint8)
    confidence[~covered] = 0
    return MapBand(ids, np.ascontiguousarray(maps[-1]), confidence)
