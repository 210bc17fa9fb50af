"""How slides are segmented: the recipe's section predict."""

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
    overlap_px. The network's attention sees the whole of a tile, so tiles as large as the labelled crops suit best: a
    model that had hardly trained was twice as unsure in tiles of 512 px as of 256, a trained one the same."""
    overlap_px: Annotated[int, Ge(0), Le(2048)] = 64
    """Pixels that neighbouring tiles share; blended smoothly. With fewer than 64 the tiles' edges, beyond which the
    network sees nothing, show in the uncertainty: 1.4 times as much in the middle of 32 shared pixels, 1.04 of 64."""
    batch: Annotated[int, Ge(1), Le(256)] | None = None
    """Tiles computed together; null takes as many as a GPU has room for, and on a CPU what its caches hold."""
    skip_glass: bool = True
    """Return glass the fill class (or ignore) without computing it."""
    uncertainty_bits: Literal[8, 32] = 8
    """Of a value of the uncertainty map. 8 stores grey levels, and among the file's annotations how many nats a grey
    level is, 1/255 of the slide's largest uncertainty; 32 stores nats as they were computed, in many times the room."""


@dataclass(frozen=True, kw_only=True)
class SlideSettings(PredictSection):
    """How one slide is cut into tiles: the section with what it leaves open.

    Attributes:
        tile_px: Side of a tile.
        mpp: Micrometres per pixel of the tiles and of the class map, or None for level 0 as it is.
        assume_mpp: Micrometres per level-0 pixel of a slide that does not say.
    """

    tile_px: int = field()
    mpp: float | None
    assume_mpp: float | None
