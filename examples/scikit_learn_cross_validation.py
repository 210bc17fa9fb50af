"""Cross-validation by slide with scikit-learn: crops of one slide are never on both sides.

python examples/scikit_learn_cross_validation.py
"""

from made_cells import CLASSES, made_cells
from sklearn.model_selection import GroupKFold, cross_val_score

import cytoseg as cs

images, label_maps = map(list, zip(*(made_cells(seed) for seed in range(6)), strict=True))
slides = ["A", "A", "B", "B", "C", "C"]

# Filters alone: no network is run, so that three trainings take seconds.
classifier = cs.PixelClassifier(classes=CLASSES, extractors=["filters"], members=2, steps=200)
scores = cross_val_score(classifier, images, label_maps, groups=slides, cv=GroupKFold(3))
print("mean IoU with one slide left out:", ", ".join(f"{score:.2f}" for score in scores))
