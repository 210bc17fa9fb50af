"""Crops of synthetic slides with their exact label maps, as the labels of a run.

    python -m tests.benchmarks.true_crops RECIPE [--per-slide 8] [--size-px 64]

Cuts random crops of tissue from every slide of the recipe at its mpp, which must be that of a level of the slides'
label maps, and writes the run's labels.
"""

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from cytoseg.geometry import Region, Size
from cytoseg.labels.index import CropName, LabelIndex, write_crop, write_index
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.slides.open import find_slides, open_slide, read_at, slide_id
from cytoseg.synthetic.generate import labels_path

Crop = tuple[str, str, NDArray[np.uint8], NDArray[np.uint8]]
LEAST_NUCLEUS_PX = 20
"""Crops with fewer pixels of the last class are drawn again, because there would be nothing to edit."""


def true_crops(recipe: Recipe, *, per_slide: int, size_px: int, seed: int = 0) -> Iterator[Crop]:
    """Yield the crops: name, slide, (H, W, 3) uint8 image and (H, W) uint8 ids."""
    for path in find_slides(recipe.slides.folders, recipe.slides.include, recipe.slides.exclude):
        with open_slide(path) as slide, tifffile.TiffFile(labels_path(path)) as labels:
            slide_mpp = slide.mpp
            assert slide_mpp is not None
            factor = round((recipe.slides.mpp or slide_mpp) / slide_mpp)
            ids = labels.series[0].levels[factor.bit_length() - 1].asarray()
            rng, last = np.random.default_rng([seed, *path.name.encode()]), len(recipe.classes) - 1
            found = 0
            while found < per_slide:
                y, x = (int(rng.integers(side - size_px + 1)) for side in ids.shape)
                part = ids[y : y + size_px, x : x + size_px].astype(np.uint8)
                if (part == last).sum() < LEAST_NUCLEUS_PX:
                    continue
                at = Region(x * factor, y * factor, size_px * factor, size_px * factor)
                yield f"{slide_id(path)}_{x}_{y}", slide_id(path), read_at(slide, at, Size(size_px, size_px)), part
                found += 1


def write_labels(folder: Path, crops: Iterator[Crop], recipe: Recipe) -> int:
    """Write or replace a labels folder; return the number of crops."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    classes = recipe.class_list()
    written = {
        name: write_crop(folder, CropName(name, slide, "exact"), picture=picture, label_map=ids, classes=classes)
        for name, slide, picture, ids in crops
    }
    write_index(LabelIndex(folder, classes.names, tuple(written[name] for name in sorted(written))))
    return len(written)


def main() -> None:
    """Cut the crops and write the labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--per-slide", type=int, default=8)
    parser.add_argument("--size-px", type=int, default=64)
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    crops = true_crops(recipe, per_slide=options.per_slide, size_px=options.size_px)
    print(f"{write_labels(recipe.labels_folder(), crops, recipe)} crops in {recipe.labels_folder()}")


if __name__ == "__main__":
    main()
