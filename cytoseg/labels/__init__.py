"""Annotations of people: labelme files and mask images in, label maps out."""
