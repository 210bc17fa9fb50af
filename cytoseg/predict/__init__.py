"""Class maps and uncertainty maps of whole slides."""
