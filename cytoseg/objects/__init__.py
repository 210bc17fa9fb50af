"""Objects of a class map: components, watershed, measurements, outlines."""
