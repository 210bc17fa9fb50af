"""Active learning: finding, selecting and queueing regions to annotate."""
