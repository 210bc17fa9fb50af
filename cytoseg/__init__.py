"""cytoseg: label-efficient segmentation for cytology."""

__version__ = "0.1.0"
