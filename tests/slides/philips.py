"""TIFF files in Philips' layout: levels padded to whole tiles, pixel sizes in XML."""

from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import tifffile
from numpy.typing import NDArray

TILE = 64


def write_philips(path: Path, pixels: NDArray[np.uint8], *, mpp: float, levels: int) -> Path:
    """Write a slide whose levels are means of 2 x 2 pixels of the finer one, and then black padding.

    Args:
        path: Where to write.
        pixels: (H, W, 3) uint8.
        mpp: Micrometres per level-0 pixel.
        levels: How many.
    """
    spacings = [mpp / 1000 * 2**level for level in range(levels)]
    with tifffile.TiffWriter(path) as tif:
        for level in range(levels):
            options: dict[str, Any] = {"subfiletype": 1 if level else 0}
            if not level:
                options |= {"description": _description(spacings), "software": "Philips DP v1.0"}
            whole = [(0, -n % TILE if level else 0) for n in pixels.shape[:2]]
            padded = np.pad(pixels, [*whole, (0, 0)])
            tif.write(padded, tile=(TILE, TILE), photometric="rgb", compression="zlib", metadata=None, **options)
            pixels = pixels.reshape(len(pixels) // 2, 2, -1, 2, 3).mean((1, 3)).astype(np.uint8)
    return path


def _description(spacings: list[float]) -> str:
    levels = "".join(
        _object("PixelDataRepresentation", _spacing(mm), _value("PIIM_PIXEL_DATA_REPRESENTATION_NUMBER", str(level)))
        for level, mm in enumerate(spacings)
    )
    picture = _object(
        "DPScannedImage",
        _value("PIM_DP_IMAGE_TYPE", "WSI"),
        _spacing(spacings[0]),
        _value("PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE", f"<Array>{levels}</Array>"),
    )
    scanned = _value("PIM_DP_SCANNED_IMAGES", f"<Array>{picture}</Array>")
    return '<?xml version="1.0" encoding="UTF-8" ?>' + _object("DPUfsImport", scanned)


def _object(kind: str, *content: str) -> str:
    return f"<DataObject ObjectType={quoteattr(kind)}>{''.join(content)}</DataObject>"


def _value(name: str, content: str) -> str:
    return f'<Attribute Name={quoteattr(name)} Group="0x0" Element="0x0" PMSVR="IString">{content}</Attribute>'


def _spacing(mm: float) -> str:
    return _value("DICOM_PIXEL_SPACING", f"&quot;{mm}&quot; &quot;{mm}&quot;")
