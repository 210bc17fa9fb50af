"""Pixel features: extractors, filters and the table of training pixels."""
