"""Predicting a whole slide tile by tile, in memory for one row of tiles."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import PredictionError
from cytoseg.geometry import Size
from cytoseg.predict.outputs import Destination, MapBand, SlideFacts, replacing, write_maps, write_preview, write_summary
from cytoseg.runs import Interrupt, finish_step_on_interrupt
from cytoseg.slides.background import TissueMask
from cytoseg.slides.crops import downsample_to
from cytoseg.slides.open import read_at
from cytoseg.slides.slide import Slide
from cytoseg.slides.stitching import Stitcher
from cytoseg.slides.tiling import Tile, TileGrid

Predictor = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]
"""Takes (N, tile_px, tile_px, 3) uint8 RGB; gives ``probabilities``, (N, K, tile_px, tile_px) float32 over the K classes,
and ``disagreement``, (N, tile_px, tile_px) float32 in nats."""


@dataclass(frozen=True)
class SlideSettings:
    """How a slide is cut into tiles.

    Attributes:
        tile_px: Side of a tile.
        overlap_px: Pixels that neighbours share, at most half a tile.
        batch: Tiles computed together.
        mpp: Micrometres per pixel of tiles and class map, or None for level 0 as it is.
        assume_mpp: Micrometres per level-0 pixel of a slide that does not say.
    """

    tile_px: int = 256
    overlap_px: int = 64
    batch: int = 1
    mpp: float | None = None
    assume_mpp: float | None = None


@dataclass
class _Progress:
    """Counts tiles, tells whoever watches, and stops between two batches when asked to."""

    total: int
    on_tile: Callable[[int, int], None]
    interrupt: Interrupt = field(default_factory=Interrupt)
    done: int = 0
    glass: int = 0

    def add(self, count: int) -> None:
        if self.interrupt.requested:
            raise KeyboardInterrupt
        for _ in range(count):
            self.done += 1
            self.on_tile(self.done, self.total)


def predict_slide(
    slide: Slide,
    predictor: Predictor,
    destination: Destination,
    *,
    settings: SlideSettings,
    tissue: TissueMask | None = None,
    on_tile: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Predict the class and the uncertainty of each pixel of a slide, and write maps, preview and summary.

    The results take the place of earlier ones all at once at the end; after any error or Ctrl-C these are as they were.

    Args:
        slide: An open slide.
        predictor: Computes the maps of a batch of tiles.
        destination: Folder, classes and provenance.
        settings: Tiles and resolution.
        tissue: Tiles without any tissue are not computed: they become the fill class (or ignore) with uncertainty 0,
            except where a computed tile reaches into them. None computes all tiles.
        on_tile: Called with the number of tiles done, glass included, and their total.

    Raises:
        SlideError: If the slide is damaged, or does not say its mpp where one is asked for.
        PredictionError: If the results cannot be written, or are not finite.
    """
    begin = time.perf_counter()
    downsample = downsample_to(settings.mpp, slide, assume_mpp=settings.assume_mpp)
    grid = TileGrid(slide.levels[0].size, settings.tile_px, settings.overlap_px, downsample)
    mpp = settings.mpp or slide.mpp or settings.assume_mpp
    progress = _Progress(len(grid), on_tile)
    run = _Run(slide, predictor, grid, destination, settings.batch, tissue, progress)
    with replacing(destination.folder) as part:
        totals = write_maps(part, run.bands, size=grid.size, mpp=mpp)
        write_preview(part, read_at(slide, grid.area, _thumbnail_size(grid)), classes=destination.classes)
        facts = SlideFacts(
            slide=slide.path.name,
            size=grid.size,
            mpp=mpp,
            tiles=progress.total,
            glass_tiles=progress.glass,
            seconds=time.perf_counter() - begin,
        )
        write_summary(part, facts, totals, destination=destination)
