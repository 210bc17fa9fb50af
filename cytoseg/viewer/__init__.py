"""Tiles and layers of slides for a browser."""
