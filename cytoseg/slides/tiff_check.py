"""Validating a TIFF's page structure before a library parses it."""

import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import tifffile

from cytoseg.slides.regular_file import kind_unless_file

MAX_PAGES = 2000
"""A file with more pages is refused: all are read before the slide is chosen."""

_MAX_TAGS = 4096
_SUB_PAGES = 330
_VALUE_BYTES = {2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@dataclass(frozen=True)
class _Layout:
    """Byte order and widths of a classic TIFF or a BigTIFF."""

    first: struct.Struct
    count: struct.Struct
    entry: struct.Struct
    offset: struct.Struct


def open_pages(source: Path | bytes) -> Any:
    """Open a TIFF after checking that its pages can be parsed in bounded time and memory.

    Args:
        source: A file, or the bytes of one.

    Returns:
        The tifffile.TiffFile, to be closed by the caller.

    Raises:
        ValueError: If its pages form a loop, exceed ``MAX_PAGES`` or claim more values than the file has bytes; if it
            is not a regular file; as a tifffile.TiffFileError, if it is not a TIFF.
        OSError: If it cannot be read.
    """
    if isinstance(source, Path) and (kind := kind_unless_file(source)):
        raise ValueError(f"it is {kind}, not a file")
    with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        _look_over(file)
    return tifffile.TiffFile(BytesIO(source) if isinstance(source, bytes) else source)


def _look_over(file: BinaryIO) -> None:
    head = file.read(16)
    layout = _layout(head)
    if layout is None:
        return  # the library reports why it is not a TIFF
    length = file.seek(0, 2)
    (offset,) = layout.first.unpack_from(head, 8 if layout.first.size == 8 else 4)
    seen: set[int] = set()
    while 0 < offset < length:
        if offset in seen:
            raise ValueError(f"its pages form a loop (page {len(seen) + 1} points back)")
        seen.add(offset)
        if len(seen) > MAX_PAGES:
            raise ValueError(f"it has more than {MAX_PAGES:,} pages")
        offset = _next_page(file, offset, layout, length=length, number=len(seen))


def _layout(head: bytes) -> _Layout | None:
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16:
        return None
    version = struct.unpack(order + "H", head[2:4])[0]
    letters = {42: "IHI", 43: "QQQ"}.get(version)
    if letters is None:
        return None
    first, count, number = (order + letter for letter in letters)
    entry = f"{order}HH{letters[2]}"
    return _Layout(struct.Struct(first), struct.Struct(count), struct.Struct(entry), struct.Struct(number))


def _next_page(file: BinaryIO, offset: int, layout: _Layout, *, length: int, number: int) -> int:
    """Check the tags of a page and return the offset of the next one; 0 if there is none or the file ends first."""
    file.seek(offset)
    head = file.read(layout.count.size)
    if len(head) < layout.count.size:
        return 0
    (count,) = layout.count.unpack(head)
    if count > _MAX_TAGS:
        return 0  # the library refuses it
    step = layout.entry.size + layout.offset.size
    tags = file.read(count * step)
    for at in range(0, len(tags) - step + 1, step):
        code, kind, values = layout.entry.unpack_from(tags, at)
        if values * _VALUE_BYTES.get(kind, 1) > length:
            raise ValueError(f"tag {code} of page {number} claims {values:,} values, more than the file has room for")
        if code == _SUB_PAGES and values > MAX_PAGES:
            raise ValueError(f"page {number} claims {values:,} pages below it, more than {MAX_PAGES:,}")
    after = file.read(layout.offset.size)
    return int(layout.offset.unpack(after)[0]) if len(after) == layout.offset.size else 0
