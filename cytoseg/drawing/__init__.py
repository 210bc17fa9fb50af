"""Drawing: overlays, colour ramps and colour-blind checks."""
