"""Feature selection by cross-validation over slides."""
