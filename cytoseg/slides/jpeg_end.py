"""JPEG data that ends in zeros, as after a broken download or copy."""

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
