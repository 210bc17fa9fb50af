"""Write scikit-learn's digits as grey pictures with masks, for recipes/digits.yaml: ``write_digits.py FOLDER [COUNT]``.

The set has 1,797 grey digits of 8x8 px by 43 writers; the second half is by other writers than the first. Each is
enlarged to 32x32 px, ink dark on white paper, as a slide is. In a mask 0 is paper, 1 to 10 are the digits 0 to 9.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SIDE, FULL_INK = 32, 16
LABELLED_EACH = 200
"""Digits with a mask, of each half of the set."""


def write_digits(folder: Path, count: int | None = None) -> None:
    """Write ``pictures/``, and ``labelled/`` with ``images/`` beside ``masks/``; a* is the first half, b* the second.

    Args:
        folder: Where to write.
        count: Digits to write of each half; None for all.
    """
    found = load_digits()
    half = len(found.target) // 2
    for letter, start in (("a", 0), ("b", half)):
        for number in range(min(count or half, half)):
            ink, digit = found.images[start + number] / FULL_INK, found.target[start + number]
            large = Image.fromarray(ink.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            ink = np.clip(np.asarray(large), 0, 1)
            picture, name = np.uint8(255 - np.round(255 * ink)), f"{letter}{number:03d}.png"
            _save(picture, folder / "pictures" / name)
            if number < LABELLED_EACH:
                _save(picture, folder / "labelled" / "images" / name)
                _save(np.where(ink >= 0.5, 1 + digit, 0).astype(np.uint8), folder / "labelled" / "masks" / name)


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


if __name__ == "__main__":
    write_digits(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
