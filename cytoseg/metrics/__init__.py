"""Metrics: segmentation, objects, calibration, risk-coverage, agreement."""
