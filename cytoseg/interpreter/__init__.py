"""The ensemble of per-pixel MLPs that reads the features."""
