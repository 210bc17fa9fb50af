"""TIFF files with tags of any type, count and value: what no library writes."""

import struct
from pathlib import Path

import tifffile

_ENTRY = struct.Struct("<HHI")


def retag(path: Path, code: int, kind: int, count: int, value: bytes, *, page: int = 0, new_code: int = 0) -> Path:
    """Write a tag of a page anew, whatever it was; of a little-endian classic TIFF.

    Args:
        path: The file.
        code: Number of the tag, which the page must have.
        kind: Of its values: 2 text, 3 two bytes, 4 four bytes, 5 fractions, 12 double, ...
        count: Of values.
        value: In bytes; more than four go to the end of the file.
        page: Index of the page.
        new_code: Number of the tag from now on; 0 keeps it.
    """
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[page].tags[code].offset
    content = bytearray(path.read_bytes())
    if len(value) > 4:
        value, content = struct.pack("<I", len(content)), content + value
    content[offset : offset + 12] = _ENTRY.pack(new_code or code, kind, count) + value.ljust(4, b"\0")
    path.write_bytes(content)
    return path
