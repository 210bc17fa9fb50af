"""The pydantic configuration shared by all sections of a recipe."""

from typing import Any

RULES: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True, "allow_inf_nan": False}
"""Value of a section's ``__pydantic_config__``: unknown keys and infinite numbers are refused; the docstring under a
field becomes its description."""
