"""Synthetic Pap smear slides with exact label maps."""
