"""Evaluation on test crops, generative scores and history."""
