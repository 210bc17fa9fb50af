"""Interpreters: ensembles of per-pixel MLPs, decoders, students and baselines."""
