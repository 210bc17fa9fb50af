"""Methods scored on the test crops, and results over time."""
