"""Deep zoom tiles for OpenSeadragon: geometry, JPEG and PNG."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.drawing.overlay import ramp_table
from cytoseg.errors import SlideError
from cytoseg.geometry import Region, Size

TILE_PX = 256
JPEG_QUALITY = 85
OPAQUE = 255


@dataclass(frozen=True)
class TilePyramid:
    """OpenSeadragon's tile pyramid of a slide: step 0 is one tile, each further step is twice as fine.

    Layers use the same tiles, so that they align with the slide at any resolution.

    Attributes:
        size: Size of the slide's level 0.
    """

    size: Size

    @property
    def finest(self) -> int:
        """Index of the step that shows level 0."""
        return max(0, (max(self.size.width, self.size.height) - 1) // TILE_PX).bit_length()

    def grid(self, step: int) -> Size:
        """Return columns and rows of a step; (0, 0) if there is no such step."""
        if not 0 <= step <= self.finest:
            return Size(0, 0)
        span = TILE_PX << (self.finest - step)
        return Size(-(-self.size.width // span), -(-self.size.height // span))

    def tile(self, step: int, column: int, row: int) -> tuple[Region, Size]:
        """Return a tile's region on the slide, and its size in pixels: 256 a side, less at the right and lower edge.

        Raises:
            SlideError: If there is no such tile.
        """
        grid = self.grid(step)
        if not (0 <= column < grid.width and 0 <= row < grid.height):
            raise SlideError(f"there is no tile {column}, {row} at step {step}.")
        downsample = 1 << (self.finest - step)
        x, y = column * TILE_PX * downsample, row * TILE_PX * downsample
        width, height = (
            min(TILE_PX * downsample, length - start) for start, length in ((x, self.size.width), (y, self.size.height))
        )
        return Region(x, y, width, height), Size(-(-width // downsample), -(-height // downsample))


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Encode an (H, W, 3) uint8 image as JPEG."""
    packed = BytesIO()
    Image.fromarray(picture).save(packed, "jpeg", quality=JPEG_QUALITY)
    return packed.getvalue()


def painted(values: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """Encode a layer as a PNG with transparency.

    Args:
        values: (H, W) uint8.
        palette: (256, 4) uint8, red, green, blue and opacity of each value.
    """
    picture, packed = Image.fromarray(values), BytesIO()
    picture.putpalette(palette[:, :3].tobytes())
    # A tile has few colours and is viewed once: the fastest compression is small enough.
    picture.save(packed, "png", compress_level=1, transparency=palette[:, 3].tobytes())
    return packed.getvalue()


def class_palette(classes: ClassList, shown: frozenset[int]) -> NDArray[np.uint8]:
    """Return the palette of some classes, (256, 4) uint8; all other ids, including ignore, are transparent."""
    palette = np.zeros((256, 4), np.uint8)
    palette[:, :3] = classes.colour_table()
    palette[[class_id for class_id in shown if class_id < len(classes)], 3] = OPAQUE
    return palette


def ramp_palette() -> NDArray[np.uint8]:
    """Return the opaque palette of uncertainty, (256, 4) uint8: dark is certain, light uncertain."""
    return np.concatenate([np.rint(ramp_table()), np.full((256, 1), OPAQUE)], axis=1).astype(np.uint8)
