"""Slide viewer: tiles and layers for a browser."""
