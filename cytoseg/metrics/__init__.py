"""Scores that are all derived from one table of pixel counts."""
