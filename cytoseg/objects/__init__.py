"""Objects of a class map: connected areas, outlines, measurements."""
