"""Looking up per-folder values, such as ``assume_mpp``, for a slide."""

import os
from collections.abc import Mapping
from pathlib import Path

from cytoseg.patterns import on_disk


def innermost(path: Path, by_folder: Mapping[Path, float]) -> float | None:
    """Return the value of the innermost folder that a slide lies in, or None if it lies in none.

    Args:
        path: Of the slide.
        by_folder: Folders, relative to the current one or absolute.
    """
    # Compare the paths as given first, then with symlinks resolved.
    for real in (os.path.abspath, os.path.realpath):
        folders = {Path(real(on_disk(folder))): value for folder, value in by_folder.items()}
        inside = [folder for folder in folders if Path(real(path)).is_relative_to(folder)]
        if inside:
            return folders[max(inside, key=lambda folder: len(folder.parts))]
    return None
