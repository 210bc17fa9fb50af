"""Predicting a whole slide tile by tile, in memory for a few tiles, from where an interruption left it."""

import contextlib
import functools
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import ClassList
from cytoseg.errors import PredictionError, SlideError
from cytoseg.geometry import Size
from cytoseg.maps.map_spool import MapBand, MapSpool
from cytoseg.predict.outputs import Destination, SlideFacts, is_whole, write_outputs
from cytoseg.runs import Interrupt, finish_step_on_interrupt
from cytoseg.slides.background import TissueMask
from cytoseg.slides.open import read_at
from cytoseg.slides.prefetch import ahead
from cytoseg.slides.resolution import downsample_to
from cytoseg.slides.slide import Slide
from cytoseg.slides.stitching import Patch, Stitcher
from cytoseg.slides.tiling import Tile, TileGrid
from cytoseg.writing import resumable

Predictor = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]
"""Takes (N, tile_px, tile_px, 3) uint8 RGB; gives ``probabilities``, (N, K, tile_px, tile_px) float32 of K classes,
and ``disagreement``, (N, tile_px, tile_px) float32 in nats."""

_Maps = Sequence[NDArray[np.float32] | None]
"""(K + 1, tile_px, tile_px) of each tile of a batch, None for glass."""

OnProgress = Callable[[str, int, int], None]
"""Takes what is being counted, how many are done, and their total."""


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

    def shows_tissue(self, tile: Tile) -> bool:
        return self.tissue is None or self.tissue.covers(tile.region) > 0


@dataclass(frozen=True)
class _Batch:
    """Neighbours in a row: the tiles to compute, and for each neighbour whether it is one of them or glass."""

    tiles: tuple[Tile, ...]
    tissue: tuple[bool, ...]


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

    The results replace earlier ones all at once at the end; after any error or Ctrl-C these are as they were. What is
    finished by then is kept beside them, and the next call with the same provenance goes on from there: the maps come
    out the same, byte by byte.

    Where no tile has its border nearer than the predictor looks around a pixel, the maps are to 1e-5 those of the slide
    predicted whole. Nearer, a tile lacks what lies beyond its border, and blending gives most of the weight to its
    neighbour: what differs there is the smaller the wider the overlap. A network with attention looks at the whole of
    its tile; how little that shows is measured in ``tests/benchmarks/tile_placement.py``.

    Args:
        slide: An open slide.
        predictor: Computes the maps of a batch of tiles; called by this thread.
        destination: Folder, classes and provenance.
        settings: Tiles and resolution.
        tissue: Tiles that hold none are not computed. What no computed tile reaches becomes the fill class (or ignore)
            with uncertainty 0. None computes every tile.
        on_progress: Told ``tiles``, how many are done, glass included, and their total; then ``objects`` and how far
            the search for them is, in rows.

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
        spool = MapSpool(part, size=grid.size)
        if not is_whole(part):  # it is, if a kill came after the last file
            computing_s = _fill(spool, job, functools.partial(on_progress, "tiles"))
            glass = sum(not job.shows_tissue(tile) for row in grid.rows() for tile in row)
            note = ", ".join(filter(None, (slide.note, slide.damage, _unscaled(settings, slide))))
            facts = SlideFacts(slide, grid, mpp, note, glass_tiles=glass, computing_s=computing_s, begin=begin)
            found = functools.partial(on_progress, "objects")
            write_outputs(part, destination, facts=facts, spool=spool, on_row=found)
        spool.remove()


def _unscaled(settings: SlideSettings, slide: Slide) -> str:
    """Say that a slide was not brought to any mpp, if that may be wrong: who says none cannot be matched."""
    found = slide.mpp or settings.assume_mpp
    if settings.mpp or not found:
        return ""
    return f"read at its full resolution of {found:.4g} µm per pixel because the bundle does not specify one"


def _fill(spool: MapSpool, job: _Job, on_tile: Callable[[int, int], None]) -> float:
    """Compute the rows that the maps lack; returns the seconds that the predictor took."""
    try:
        with finish_step_on_interrupt() as interrupt:
            progress = _Progress(len(job.grid), on_tile, interrupt)
            _stitch(spool, job, progress)
    except SlideError as error:
        if not spool.rows:
            spool.remove()
            raise SlideError(f"{error} Nothing was kept.") from error
        kept = f"{spool.rows} of {job.grid.size.height} rows are finished and were kept"
        raise SlideError(f"{error} {kept}.") from error
    return progress.computing_s


def _stitch(spool: MapSpool, job: _Job, progress: _Progress) -> None:
    """Compute row after row of tiles, and write what no later tile can change, from the finished rows on.

    One thread reads ahead, another stitches and writes; this one computes, because only the main thread keeps its
    memory from one tile to the next.
    """
    grid, top = job.grid, spool.rows
    progress.done = len(grid) - sum(len(row) for row, _ in _rows_left(grid, top))
    waiting = spool.folder / "waiting.raw"
    sides = {"tile_px": grid.tile_px, "overlap_px": grid.overlap_px}
    stitcher = Stitcher(grid.size, channels=len(job.classes) + 1, **sides, waiting=waiting)
    steps = _stitched(stitcher, spool, job)
    next(steps)
    computed = _tile_maps(job, top, progress)
    try:
        with contextlib.closing(computed), contextlib.closing(ahead(steps.send, computed)) as written:
            for count in written:
                progress.advance(count)
    finally:
        waiting.unlink(missing_ok=True)


def _stitched(stitcher: Stitcher, spool: MapSpool, job: _Job) -> Generator[int, _Maps, None]:
    """Take the maps of tiles batch by batch, and write what is finished; returns how many tiles each batch had."""
    top = spool.rows
    batch = yield 0
    taken = 0
    for row, below in _rows_left(job.grid, top):
        stitcher.begin_row(row[0].y, below=below)
        for right in [*(tile.x for tile in row[1:]), job.grid.size.width]:
            if taken == len(batch):
                batch, taken = (yield taken), 0
            patch = stitcher.add(batch[taken], right=right)
            taken += 1
            if below > top:
                spool.write(_finished(patch, fill_id=job.classes.fill_id), x=patch.x, y=patch.y)
        stitcher.end_row()
        if below > top:
            spool.finish(below)
    yield taken


def _rows_left(grid: TileGrid, top: int) -> Iterator[tuple[list[Tile], int]]:
    """Return the rows of tiles that show anything from the finished rows of pixels on, each with where the next begins.

    Those that begin above are recomputed, for what they add to the rows below.
    """
    if top >= grid.size.height:
        return
    rows = grid.rows()
    row = next(rows)
    for following in rows:
        if row[0].y + grid.tile_px > top:
            yield row, following[0].y
        row = following
    yield row, grid.size.height


def _tile_maps(job: _Job, top: int, progress: _Progress) -> Generator[_Maps, None, None]:
    """Compute the maps of each batch of tiles; another thread reads ahead."""
    with contextlib.closing(ahead(lambda batch: (batch, _read(job, batch)), _batches(job, top))) as read:
        for batch, pictures in read:
            begin = time.perf_counter()
            computed = iter(() if pictures is None else _predicted(job, batch, pictures))
            progress.computing_s += time.perf_counter() - begin
            yield [next(computed) if is_tissue else None for is_tissue in batch.tissue]


def _batches(job: _Job, top: int) -> Iterator[_Batch]:
    """Put the tiles of each row together until a batch is full; glass takes no room in it."""
    for row, _ in _rows_left(job.grid, top):
        tiles: list[Tile] = []
        tissue: list[bool] = []
        for tile in row:
            tissue.append(job.shows_tissue(tile))
            tiles += [tile] * tissue[-1]
            if len(tiles) == job.batch:
                yield _Batch(tuple(tiles), tuple(tissue))
                tiles, tissue = [], []
        if tissue:
            yield _Batch(tuple(tiles), tuple(tissue))


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
            f"{job.slide.path.name}: the prediction contains NaN or infinite values, in a tile from x {tiles[0].x}, "
            f"y {tiles[0].y} on. The interpreters are probably damaged: run train-interpreter again."
        )
    return joined


def _finished(patch: Patch, *, fill_id: int) -> MapBand:
    probabilities, glass = patch.maps[:-1], ~patch.covered
    ids = probabilities.argmax(axis=0).astype(np.uint8)
    confidence = np.clip(np.rint(255 * probabilities.max(axis=0)), 1, 255).astype(np.uint8)
    ids[glass], confidence[glass] = fill_id, 0
    return MapBand(ids, patch.maps[-1], confidence)
