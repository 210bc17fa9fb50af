"""Validation of recipe sections, the only use of pydantic below the recipe.

A section is a frozen dataclass in the room that uses it.
"""

from collections.abc import Callable
from typing import Any

from pydantic import AfterValidator, Discriminator, StringConstraints, Tag

RULES: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False}
"""Value of a section's ``__pydantic_config__``: unknown keys and infinite numbers are refused."""

# The tag selects the alternative a wrong value is reported for; messages omit it.
ONE, TABLE = Tag("<one>"), Tag("<table>")
"""Tags of the two alternatives of a field with ``ONE_OR_TABLE``: a single value, or a table of values."""
ONE_OR_TABLE = Discriminator(lambda found: "<table>" if isinstance(found, dict) else "<one>")
"""Metadata of a field that takes either."""


def checked_by(rule: Callable[[Any], Any]) -> Any:
    """Validate a field with a function that returns the value to keep, or raises a ValueError."""
    return AfterValidator(rule)


def matching(pattern: str) -> Any:
    """Accept a text only if it matches a regular expression."""
    return StringConstraints(pattern=pattern)
