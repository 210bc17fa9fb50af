"""Exceptions that image parsers raise on damaged bytes."""

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
