"""Anomaly maps: parts of slides that a diffusion model of normal slides cannot reconstruct."""
