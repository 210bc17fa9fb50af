"""Size limits of input files, and the environment variables that raise them."""

import os

from cytoseg.errors import CytosegError

LIMITS = {
    "CYTOSEG_MAX_JSON_MB": 1000,
    "CYTOSEG_MAX_YAML_KB": 100,
    "CYTOSEG_MAX_WEIGHTS_MB": 8000,
    "CYTOSEG_MAX_PICTURE_PX": 150_000_000,  # images decoded whole, three bytes per pixel
    "CYTOSEG_MAX_TILE_PX": 2**26,  # 8192 x 8192, a tile of a slide or map
}
"""Environment variable to its default limit."""


def limit(name: str) -> int:
    """Return a limit from the environment, or its default.

    Args:
        name: Key of ``LIMITS``.

    Raises:
        CytosegError: If the variable is not an integer above 0.
    """
    text = os.environ.get(name, "")
    if not text:
        return LIMITS[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) > 0):
        raise CytosegError(f"{name}: {text!r} is not a whole number above 0. Unset it, or set a whole number.")
    return int(text)


def how_to_raise(name: str) -> str:
    """Return the sentence that tells the user how to raise a limit."""
    return f"If it is meant to be that large, set {name} to more than {limit(name)}."
