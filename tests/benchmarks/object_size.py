"""IoU by the size of the nuclei and the scale of the features: crops are enlarged, as a sharper scan would show them.

    python -m tests.benchmarks.object_size recipes/lbc.yaml 1@1 2@1 3@1 3@0.5 5@0.25 [--set section.key=value]

``3@0.5`` enlarges images and labels three times and reads the features at scale 0.5. The recipe's labels must be
imported. Trains ``PixelClassifier`` (3 members, 500 steps) on five train crops and scores five test crops.
"""

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import cytoseg as cs
from cytoseg.labels.index import LabelledCrop
from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.segmentation import iou
from cytoseg.recipe import load_recipe
from cytoseg.workflows.crop_split import split_of
from cytoseg.workflows.object_size import median_diameter_px

CROPS = 5


def enlarged(crop: LabelledCrop, times: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return image and label map of a crop, bicubic and by the nearest pixel."""
    picture, ids = Image.fromarray(crop.picture()), Image.fromarray(crop.label_map())
    size = (times * picture.width, times * picture.height)
    large, ids = picture.resize(size, Image.Resampling.BICUBIC), ids.resize(size, Image.Resampling.NEAREST)
    return np.asarray(large), np.asarray(ids)


def main() -> None:
    """Print a row for each size and scale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("pairs", nargs="+", metavar="ENLARGED@SCALE")
    parser.add_argument("--set", action="append", default=[], help="override a key of the recipe")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, options.set)
    split, names = split_of(recipe), recipe.class_list().names
    train, test = split.train[:: len(split.train) // CROPS][:CROPS], split.test[:: len(split.test) // CROPS][:CROPS]
    print(f"| enlarged | nuclei, px | features.scale | {' | '.join(names)} | CPU, s |\n|{'---|' * (len(names) + 4)}")
    for pair in options.pairs:
        times, scale = pair.split("@")
        begin = time.process_time()
        images, maps = zip(*(enlarged(crop, int(times)) for crop in train), strict=True)
        classifier = cs.PixelClassifier(names, members=3, steps=500, scale=float(scale)).fit(images, maps)
        counts = np.zeros((len(names), len(names)), np.int64)
        for picture, truth in (enlarged(crop, int(times)) for crop in test):
            counts += confusion_counts(truth, classifier.predict([picture])[0], len(names))
        diameter = median_diameter_px(ids == len(names) - 1 for ids in maps) or 0.0
        scores = " | ".join(f"{score:.3f}" for score in iou(counts))
        print(f"| {times} | {diameter:.0f} | {scale} | {scores} | {time.process_time() - begin:.0f} |", flush=True)


if __name__ == "__main__":
    main()
