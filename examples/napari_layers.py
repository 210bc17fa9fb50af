"""An image, its class map in the bundle's colours, and the uncertainty as layers of napari.

pip install "napari[all]"
python examples/napari_layers.py BUNDLE IMAGE
"""

import sys
from typing import Any

import napari
import numpy as np

import cytoseg as cs


def add_layers(viewer: Any, bundle: cs.Bundle, image: np.ndarray) -> None:
    """Segment an image and add it, its class map and its uncertainty to a viewer."""
    found = bundle.predict(image)
    colours = {i: (*(part / 255 for part in colour), 1.0) for i, colour in enumerate(bundle.colours)}
    viewer.add_image(image, name="image", rgb=image.ndim == 3)
    # napari shows label 0 as empty: ids are moved up by one.
    viewer.add_labels(
        found.class_map + 1,
        name="classes: " + ", ".join(f"{i + 1} {name}" for i, name in enumerate(bundle.classes)),
        colormap={None: (0, 0, 0, 0), **{i + 1: colour for i, colour in colours.items()}},
        opacity=0.5,
    )
    viewer.add_image(found.uncertainty, name="uncertainty in nats", colormap="magma", opacity=0.6, visible=False)


if __name__ == "__main__":
    with cs.open_slide(sys.argv[2]) as slide:
        picture = slide.read((0, 0, slide.size.width, slide.size.height))
    viewer = napari.Viewer()
    add_layers(viewer, cs.load_bundle(sys.argv[1]), picture)
    napari.run()
