"""The public Python API: what ``import cytoseg`` offers, a thin layer over the other rooms."""
