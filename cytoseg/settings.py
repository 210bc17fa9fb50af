"""How settings are checked: a section of a recipe is a frozen dataclass in the room that uses it."""

from typing import Any

RULES: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True, "allow_inf_nan": False}
"""What pydantic is told by a section's ``__pydantic_config__``: unknown keys and infinite numbers are refused, and the
docstring under a field explains it."""
