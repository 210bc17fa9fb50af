"""Maps of a slide, one value a pixel, read and written part by part."""
