"""Imported annotations: label maps, corrections, proposals and exports."""
