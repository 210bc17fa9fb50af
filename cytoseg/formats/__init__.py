"""Parsers for files of other programs: labelme, QuPath, mask images."""
