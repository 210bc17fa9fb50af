"""Files that other programs write: labelme, QuPath, mask images."""
