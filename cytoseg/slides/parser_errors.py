"""Exceptions that parsers of images and archives raise on damaged bytes."""

import errno
import struct

DAMAGE = (
    OSError,
    EOFError,
    ValueError,  # tifffile.TiffFileError is one
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,  # tifffile asserts on malformed files
    MemoryError,
    RuntimeError,  # imagecodecs' errors
    SyntaxError,  # Pillow, on a broken header
    struct.error,
)
"""Exceptions raised by image parsers on damaged bytes."""


def is_of_content(error: Exception) -> bool:
    """Return whether unpacking failed because of the content, not of the disk or for lack of memory.

    Each compression has exceptions of its own: those of bz2 are OSErrors without a number, and EINVAL is the answer to
    an offset before the file.
    """
    if isinstance(error, OSError):
        return error.errno in (None, errno.EINVAL)
    return not isinstance(error, MemoryError)
