"""Predicting a whole slide tile by tile, in memory for one row of tiles."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.errors import PredictionError
from cytoseg.geometry import Size
from cytoseg.predict.outputs import Destination, MapBand, SlideFacts, spool_maps, write_outputs
from cytoseg.runs import Interrupt, finish_step_on_interrupt
from cytoseg.slides.background import TissueMask
from cytoseg.slides.crops import downsample_to
from cytoseg.slides.open import read_at
from cytoseg.slides.slide import Slide
from cytoseg.slides.stitching import Stitcher
from cytoseg.slides.tiling import Tile, TileGrid
from cytoseg.writing import replaced

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


@dataclass
class _Progress:
    """Counts tiles, tells whoever watches, and stops between two batches when asked to."""

    total: int
    on_tile: Callable[[int, int], None]
    interrupt: Interrupt
    done: int = 0
    glass: int = 0

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

    The results replace earlier ones all at once at the end; after any error or Ctrl-C these are as they were.

    Args:
        slide: An open slide.
        predictor: Computes the maps of a batch of tiles.
        destination: Folder, classes and provenance.
        settings: Tiles and resolution.
        tissue: Tiles that hold none are not computed. What no computed tile reaches becomes the fill class (or ignore)
            with uncertainty 0. None computes every tile.
        on_tile: Called with the number of tiles done, glass included, and their total.

    Raises:
        SlideError: If the slide is damaged, or does not say its mpp and one is asked for.
        PredictionError: If the results cannot be written, or the predictor gives numbers that are not finite.
        KeyboardInterrupt: After the current batch, when Ctrl-C was pressed.
    """
    begin = time.perf_counter()
    downsample = downsample_to(settings.mpp, slide, assume_mpp=settings.assume_mpp)
    grid = TileGrid(slide.levels[0].size, settings.tile_px, settings.overlap_px, downsample)
    job = _Job(slide, predictor, destination.classes, grid, settings.batch, tissue)
    mpp = settings.mpp or slide.mpp or settings.assume_mpp
    with replaced(destination.folder, error=PredictionError) as part:
        with finish_step_on_interrupt() as interrupt:
            progress = _Progress(len(grid), on_tile, interrupt)
            totals = spool_maps(part, _bands(job, progress))
        facts = SlideFacts(slide, grid, mpp, glass_tiles=progress.glass, begin=begin)
        write_outputs(part, destination, facts=facts, totals=totals)


def _bands(job: _Job, progress: _Progress) -> Iterator[MapBand]:
    """Compute row after row of tiles, and give the rows of pixels that no later tile can change."""
    grid = job.grid
    stitcher = Stitcher(grid.size, channels=len(job.classes) + 1, tile_px=grid.tile_px, overlap_px=grid.overlap_px)
    for row in grid.rows():
        if row[0].y > stitcher.top:
            yield _band(*stitcher.finish(row[0].y), fill_id=job.classes.fill_id)
        tiles = [tile for tile in row if job.tissue is None or job.tissue.covers(tile.region) > 0]
        for first in range(0, len(tiles), job.batch):
            batch = tiles[first : first + job.batch]
            for tile, maps in zip(batch, _predicted(job, batch), strict=True):
                stitcher.add(maps, x=tile.x, y=tile.y)
            progress.advance(len(batch))
        progress.glass += len(row) - len(tiles)
        progress.advance(len(row) - len(tiles))
    yield _band(*stitcher.finish(grid.size.height), fill_id=job.classes.fill_id)


def _predicted(job: _Job, tiles: Sequence[Tile]) -> NDArray[np.float32]:
    """Compute the probabilities and, as the last channel, the disagreement of some tiles, (N, K + 1, H, W)."""
    side = job.grid.tile_px
    maps = job.predictor(np.stack([read_at(job.slide, tile.region, Size(side, side)) for tile in tiles]))
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


def _band(maps: NDArray[np.float32], covered: NDArray[np.bool_], *, fill_id: int) -> MapBand:
    # Row by row, because argmax takes eight bytes a pixel.
    ids = np.stack([row.argmax(axis=0).astype(np.uint8) for row in maps[:-1].swapaxes(0, 1)])
    ids[~covered] = fill_id
    return MapBand(ids, np.ascontiguousarray(maps[-1]), computed=int(covered.sum()))
