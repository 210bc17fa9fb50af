"""Slides that look like Pap smears, drawn from a seed with exact label maps."""
