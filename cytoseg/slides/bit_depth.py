"""How many bits of 16-bit values hold data: cameras often fill 10 to 14 of them."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from cytoseg.errors import SlideError

_BITS, _MAX_SAMPLE_VALUE = 16, 281
_DARK = 4095
"""Largest value of a 12-bit camera; of 16 bits it is a sixteenth, almost black."""


def data_bits(page: Any, pixels: Mapping[str, str]) -> int:
    """Read from OME-XML or the tag MaxSampleValue how many bits of a page's 16-bit values hold data.

    Args:
        page: The tifffile.TiffPage.
        pixels: Attributes of its ``Pixels`` element; empty if there is none.

    Returns:
        1 to 16; all bits of a value if fewer are not stated.
    """
    bits, stated = int(page.bitspersample), pixels.get("SignificantBits", "")
    if bits != _BITS:
        return bits
    if stated.isascii() and stated.isdecimal() and len(stated) < 3 and 8 <= int(stated) <= bits:
        return int(stated)
    found = page.tags.valueof(_MAX_SAMPLE_VALUE)
    values = found if isinstance(found, tuple) and found else (found,)
    if all(isinstance(value, int) for value in values) and 255 <= max(values) < 2**bits:
        return int(max(values)).bit_length()
    return bits


def brightest(pixels: NDArray[Any]) -> int:
    """Return the largest value of (H, W, S) pixels, without the alpha behind the colours."""
    return int(pixels[..., : 3 if pixels.shape[-1] >= 3 else 1].max(initial=0))


def refuse_dark(largest: int, *, bits: int, kind: str, name: str) -> None:
    """Refuse the 16-bit colours of a 12-bit camera if the file does not say so: they would be read as almost black.

    Args:
        largest: The largest value of an image or of a sample of it; 0 is an image without light.
        bits: From ``data_bits``.
        kind: ``RGB`` or ``MINISBLACK``; others are not checked.
        name: The file's name in messages.

    Raises:
        SlideError: If all values are those of 12 bits.
    """
    if bits == _BITS and 0 < largest <= _DARK and kind in ("RGB", "MINISBLACK"):
        raise SlideError(
            f"{name}: holds 16-bit values of at most {largest}, probably of a 12-bit camera, and would be almost "
            "black. Scale it to 8 bits, for example in Fiji with Image > Type > RGB Color."
        )
