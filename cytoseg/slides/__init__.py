"""Slides: opening, reading, cropping, tiling, stitching and writing."""
