"""JPEG data without its end, as after a broken download or copy."""

_LEAST = 16
"""Zeros at the end that are looked into; shorter ones may be padding."""
_END, _SCAN = b"\xff\xd9", b"\xff\xda"


def ends_in_zeros(data: bytes) -> bool:
    """Return whether a JPEG image is filled up with zeros, which decoders take for grey without a word.

    Args:
        data: A whole file or tile; anything but JPEG is never one.
    """
    if not data.startswith(b"\xff\xd8") or any(data[-_LEAST:]):
        return False
    return data.rfind(_END) < data.rfind(_SCAN)  # the last scan has no end


def is_cut_off(data: bytes) -> bool:
    """Return whether the JPEG image of a tile or strip has no end; decoders make up the rest without a word.

    Stricter than ``ends_in_zeros``, which is for files, where a camera may have added anything.

    Args:
        data: One tile or strip; anything but JPEG is never cut off.
    """
    if not data.startswith(b"\xff\xd8") or data.endswith(_END):
        return False
    scan = data.find(_SCAN)
    return scan >= 0 and data.find(_END, scan) < 0
