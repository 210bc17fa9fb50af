"""A classifier trained on annotated arrays, saved, and used on another one.

python examples/notebook_on_an_array.py
"""

from made_cells import CLASSES, made_cells

import cytoseg as cs

images, label_maps = map(list, zip(*(made_cells(seed) for seed in range(4)), strict=True))
classifier = cs.PixelClassifier(classes=CLASSES, members=4).fit(images[:3], label_maps[:3])
print(f"mean IoU on an image that it has not seen: {classifier.score(images[3:], label_maps[3:]):.2f}")

classifier.save("cells_bundle")
bundle = cs.load_bundle("cells_bundle")
found = bundle.predict(images[3])
print(f"class map {found.class_map.shape}, most uncertain pixel {found.uncertainty.max():.2f} nats")

scores = cs.evaluate([found], label_maps[3:], CLASSES)
print(", ".join(f"{entry.name} {entry.iou.text()}" for entry in scores.classes))
