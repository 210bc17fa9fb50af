"""Analyses, one per file; each writes one table and one figure."""
