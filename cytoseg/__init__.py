"""cytoseg: label-efficient segmentation for cytology.

Public names are imported lazily, on first use, so that ``import cytoseg`` is fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cytoseg.api.bundle import Bundle, Prediction, load_bundle
    from cytoseg.api.diffusion import train_diffusion
    from cytoseg.api.labels import Labels, read_labels
    from cytoseg.api.pixel_classifier import PixelClassifier
    from cytoseg.api.scores import Evaluation, evaluate
    from cytoseg.api.slides import Slide, open_slide
    from cytoseg.classes import IGNORE
    from cytoseg.errors import CytosegError
    from cytoseg.geometry import Region, Size

__version__ = "0.2.0"
__all__ = [
    "IGNORE",
    "Bundle",
    "CytosegError",
    "Evaluation",
    "Labels",
    "PixelClassifier",
    "Prediction",
    "Region",
    "Size",
    "Slide",
    "__version__",
    "evaluate",
    "load_bundle",
    "open_slide",
    "read_labels",
    "train_diffusion",
]

_FILES = {
    "Bundle": "api.bundle",
    "Prediction": "api.bundle",
    "load_bundle": "api.bundle",
    "train_diffusion": "api.diffusion",
    "Labels": "api.labels",
    "read_labels": "api.labels",
    "PixelClassifier": "api.pixel_classifier",
    "Evaluation": "api.scores",
    "evaluate": "api.scores",
    "Slide": "api.slides",
    "open_slide": "api.slides",
    "IGNORE": "classes",
    "CytosegError": "errors",
    "Region": "geometry",
    "Size": "geometry",
}
"""Public name to the module that defines it."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _FILES:
        raise AttributeError(f"module 'cytoseg' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"cytoseg.{_FILES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
