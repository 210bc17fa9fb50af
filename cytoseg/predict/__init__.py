"""Prediction of slides and arrays, and its output files."""
