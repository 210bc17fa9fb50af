"""Recipe section predict."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from cytoseg.settings import RULES


@dataclass(frozen=True)
class PredictSection:
    """How slides are segmented."""

    __pydantic_config__ = RULES

    tile_px: Annotated[int, Ge(32), Le(4096)] | None = None
    """Side of a tile; null takes that of the labelled crops (labels.crop_px), but at most 512 and at least twice
    overlap_px. Attention spans a whole tile, so tiles of the size of the labelled crops are best: a barely trained
    model was twice as uncertain in tiles of 512 px as of 256, a trained one equally certain."""
    overlap_px: Annotated[int, Ge(0), Le(2048)] = 64
    """Pixels shared by neighbouring tiles and blended. With fewer than 64 the tile edges, where context is missing, are
    visible in the uncertainty: 1.4 times higher in the middle of an overlap of 32 px, 1.04 times with 64."""
    batch: Annotated[int, Ge(1), Le(256)] | None = None
    """Tiles per batch; null takes as many as fit in the memory of a GPU or the caches of a CPU."""
    skip_glass: bool = True
    """Skip glass tiles and give them the fill class (or ignore)."""
    uncertainty_bits: Literal[8, 32] = 8
    """Bits per value of the uncertainty map. 8 stores grey levels, with the nats per grey level (1/255 of the slide's
    maximum) in the file's annotations; 32 stores float nats in a much larger file."""


@dataclass(frozen=True, kw_only=True)
class SlideSettings(PredictSection):
    """Tiling of one slide: the section with resolved values.

    Attributes:
        tile_px: Side of a tile.
        mpp: Micrometres per pixel of the tiles and of the class map, or None for level 0.
        assume_mpp: Micrometres per level-0 pixel of a slide that does not state it.
    """

    tile_px: int = field()
    mpp: float | None
    assume_mpp: float | None
