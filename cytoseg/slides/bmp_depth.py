"""BMP images whose depth Pillow mistakes."""

_DEPTHS = {"1": 1, "L": 8}
"""Bits per pixel that Pillow assumes for its modes of black and white, and of grey."""


def misread_bmp(start: bytes, mode: str) -> str:
    """Describe a BMP that Pillow misreads: it derives the depth from a grey palette, so 4 bits count as 8, or 8 as 1.

    Args:
        start: The first 30 bytes of an image.
        mode: Its mode in Pillow.

    Returns:
        What is wrong and what to do, to follow the file's name; empty for an image that is read correctly.
    """
    if not start.startswith(b"BM") or mode not in _DEPTHS:
        return ""
    is_old = start[14:15] == b"\x0c"  # of OS/2, with a header of 12 bytes
    bits = int.from_bytes(start[24:26] if is_old else start[28:30], "little")
    if bits == _DEPTHS[mode]:
        return ""
    return f"stores {bits} bits per pixel with a grey palette, which would be read wrong. Save it as PNG."
