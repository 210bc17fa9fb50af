"""Sizes, regions and levels of a slide. A region is always in level-0 pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

from cytoseg.quoting import short_repr


@dataclass(frozen=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Region:
    """A rectangle on a slide in level-0 pixels; may extend beyond the slide."""

    x: int
    y: int
    width: int
    height: int

    def as_json(self) -> list[int]:
        """Return x, y, width and height, the form in which all our files store a region."""
        return [self.x, self.y, self.width, self.height]

    @classmethod
    def from_json(cls, value: object) -> "Region":
        """Parse the result of ``as_json``.

        Raises:
            ValueError: If it is not four integers, or the region is empty.
        """
        if not isinstance(value, list) or len(value) != 4 or not all(type(number) is int for number in value):
            raise ValueError(f"{short_repr(value)} is not a region [x, y, width, height] in whole pixels")
        if min(value[2:]) < 1:
            raise ValueError(f"the region {short_repr(value)} is empty")
        return cls(*value)

    def at(self, downsample: float) -> "Region":
        """Scale the region to a level that is ``downsample`` times coarser (at least 1x1)."""
        return Region(
            round(self.x / downsample),
            round(self.y / downsample),
            max(1, round(self.width / downsample)),
            max(1, round(self.height / downsample)),
        )


@dataclass(frozen=True)
class Level:
    """One resolution of a slide; level 0 is the finest and has downsample 1.0."""

    size: Size
    downsample: float


def best_level(levels: Sequence[Level], downsample: float) -> int:
    """Find the coarsest level that is at least as fine as requested.

    Args:
        levels: Finest first.
        downsample: How many level-0 pixels one output pixel spans; below 1 when enlarging.

    Returns:
        The level's index; 0 when even level 0 is too coarse.
    """
    # 1 % tolerance: pyramids round their sizes, so a level's downsample is rarely an integer.
    fine_enough = [i for i, level in enumerate(levels) if level.downsample <= downsample * 1.01]
    return fine_enough[-1] if fine_enough else 0


def downsample_of(full: Size, size: Size) -> float:
    """Compute how many level-0 pixels one pixel spans: an integer if the sizes allow it after rounding."""
    ratio = (full.width / size.width + full.height / size.height) / 2
    whole = max(1, round(ratio))
    pairs = ((full.width, size.width), (full.height, size.height))
    return float(whole) if all(large // whole <= small <= -(-large // whole) for large, small in pairs) else ratio


def overlap(inner: Region, outer: Size) -> Region:
    """Clip a region to an area of the given size (width or height 0 if they do not overlap)."""
    x0, y0 = max(0, min(inner.x, outer.width)), max(0, min(inner.y, outer.height))
    x1 = max(x0, min(inner.x + inner.width, outer.width))
    y1 = max(y0, min(inner.y + inner.height, outer.height))
    return Region(x0, y0, x1 - x0, y1 - y0)
