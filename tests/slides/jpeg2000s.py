"""JPEG 2000 codestreams with chroma subsampling, which the library cannot write."""

import struct
from collections.abc import Sequence
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

_BY_COMPONENT = 4
"""The order of packets, CPRL: all of one channel, then all of the next."""


def encode(channels: Sequence[NDArray[np.uint8]], steps: Sequence[tuple[int, int]]) -> bytes:
    """Write channels without loss, each as it is: no colour transform.

    Each is encoded by itself; with one tile, one layer and one precinct, the packets of the whole are those of the
    channels one after another.

    Args:
        channels: (H, W) each, the first in full size.
        steps: Horizontal and vertical distance of each channel's samples, such as (2, 1) for half width.
    """
    height, width = channels[0].shape
    streams = [
        imagecodecs.jpeg2k_encode(np.ascontiguousarray(c), level=0, reversible=True, codecformat="j2k", resolutions=3)
        for c in channels
    ]
    main = _segments(streams[0])
    siz = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, width, height, 0, 0, len(channels))
    siz += b"".join(struct.pack(">BBB", 7, *step) for step in steps)
    cod = bytearray(main[0x52])
    cod[1] = _BY_COMPONENT
    head = b"\xff\x4f" + _segment(0x51, siz) + _segment(0x52, bytes(cod)) + _segment(0x5C, main[0x5C])
    body = b"".join(_packets(stream) for stream in streams)
    tile = struct.pack(">HHHIBB", 0xFF90, 10, 0, 14 + len(body), 0, 1) + b"\xff\x93" + body
    return head + tile + b"\xff\xd9"


def ycbcr(rgb: NDArray[np.uint8], step: tuple[int, int]) -> list[NDArray[Any]]:
    """Turn RGB into Y, Cb and Cr (JFIF), Cb and Cr as means of ``step`` columns and rows."""
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    full = [y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402]
    across, down = step
    halved = [c.reshape(c.shape[0] // down, down, c.shape[1] // across, across).mean((1, 3)) for c in full[1:]]
    return [np.clip(np.rint(c), 0, 255).astype(np.uint8) for c in (full[0], *halved)]


def _segment(code: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(content) + 2) + content


def _segments(stream: bytes) -> dict[int, bytes]:
    """Read the main header: content by the marker's second byte."""
    found, at = {}, 2
    while stream[at + 1] != 0x90:
        length = int.from_bytes(stream[at + 2 : at + 4], "big")
        found[stream[at + 1]] = stream[at + 4 : at + 2 + length]
        at += 2 + length
    return found


def _packets(stream: bytes) -> bytes:
    at = stream.index(b"\xff\x93") + 2
    return stream[at : stream.rindex(b"\xff\xd9")]
