"""The public Python API, a thin layer over the other packages."""
