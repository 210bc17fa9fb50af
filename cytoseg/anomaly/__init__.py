"""Anomaly maps: what a diffusion model of normal slides cannot explain."""
