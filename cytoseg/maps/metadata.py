"""OME metadata of maps: names, classes, colours and scale."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.classes import IGNORE, ClassList
from cytoseg.maps.raster import SCALE
from cytoseg.slides.pyramid import About

CLASSES, COLOURS, VALUES = "cytoseg/classes", "cytoseg/colours", "cytoseg/values"
"""Annotation namespaces: id to name, id to #rrggbb, and notes on the values."""

_NOT_PREDICTED = "not predicted"


def about_classes(slide: str, classes: ClassList, provenance: Mapping[str, Any], *, file: str) -> About:
    """Describe a class map; its colours are those of the class list, and white for ignore.

    Args:
        slide: Name of the slide.
        classes: Names and colours of the ids.
        provenance: Everything that determines the result, as JSON.
        file: Name of the map's file.
    """
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in classes.colours]
    notes = {
        CLASSES: _by_id(classes.names) | {str(IGNORE): _NOT_PREDICTED},
        COLOURS: _by_id(colours) | {str(IGNORE): "#ffffff"},
    }
    return About(identity(file, provenance), f"{slide}: classes", "class id", notes, palette(classes))


def about_instances(slide: str, *, file: str) -> About:
    """Describe an instance map.

    Args:
        slide: Name of the slide.
        file: Name of the map's file.
    """
    notes = {VALUES: {"0": "no object", "others": "numbers of the objects in cells.csv and objects.geojson"}}
    return About(f"{file} {slide}", f"{slide}: objects", "object id", notes)


def about_uncertainty(slide: str, scale: float | None, provenance: Mapping[str, Any], *, file: str) -> About:
    """Describe an uncertainty map.

    Args:
        slide: Name of the slide.
        scale: Nats per grey level, None if values are nats.
        provenance: As for ``about_classes``.
        file: Name of the map's file.
    """
    values = {"unit": "nat"} if scale is None else {SCALE: repr(scale)}
    return About(identity(file, provenance), f"{slide}: uncertainty", "uncertainty", {VALUES: values})


def palette(classes: ClassList) -> NDArray[np.uint8]:
    """Return the colours of all ids, (256, 3) uint8: white for ignore, black for unused ids."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes.colours)] = classes.colours
    table[IGNORE] = 255
    return table


def identity(file: str, provenance: Mapping[str, Any]) -> str:
    """Return a unique identity for a map."""
    return f"{file} {json.dumps(dict(provenance), sort_keys=True)}"


def _by_id(values: Any) -> dict[str, str]:
    return {str(number): str(value) for number, value in enumerate(values)}
