"""Maps of a slide with one value per pixel, read and written in parts."""
