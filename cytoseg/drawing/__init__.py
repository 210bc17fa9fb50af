"""Pictures for people: overlays, colour ramps, and whether colours can be told apart."""
