"""How large a file, a picture or a model may be before it is refused; an environment variable raises each limit."""

import os

from cytoseg.errors import CytosegError

LIMITS = {
    "CYTOSEG_MAX_JSON_MB": 1000,
    "CYTOSEG_MAX_YAML_KB": 100,
    "CYTOSEG_MAX_WEIGHTS_MB": 8000,
    "CYTOSEG_MAX_PICTURE_PX": 150_000_000,  # decoded whole, at three bytes each
    "CYTOSEG_MAX_TILE_PX": 2**26,  # 8192 x 8192, of a tiled slide or map
}
"""Name of the variable to the limit that holds where it is not set."""


def limit(name: str) -> int:
    """Return a limit: what the environment says, or else the default.

    Args:
        name: Key of ``LIMITS``.

    Raises:
        CytosegError: If the variable holds no whole number above 0.
    """
    text = os.environ.get(name, "")
    if not text:
        return LIMITS[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) > 0):
        raise CytosegError(f"{name}: {text!r} is not a whole number above 0. Unset it, or set a whole number.")
    return int(text)


def raise_it(name: str) -> str:
    """Say in the last sentence of a message how to have a file read that is meant to be so large."""
    return f"If it is meant to be that large, set {name} to more than {limit(name)}."
