"""The option --memory of several commands."""

import re

from cytoseg.errors import RecipeError

_UNITS = {"M": 10**6, "G": 10**9}


def parse_memory(text: str) -> int:
    """Parse an amount of memory, such as 4G, 4GB, 3.5G or 500M.

    Returns:
        Bytes.

    Raises:
        RecipeError: If it has another form.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([GM])B?", text.strip(), re.IGNORECASE | re.ASCII)
    if found is None:
        raise RecipeError(f"--memory {text!r}: write a number and G or M, such as 4G, 3.5G or 500M.")
    return round(float(found[1]) * _UNITS[found[2].upper()])
