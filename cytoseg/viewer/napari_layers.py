"""Reader for napari: predicted maps as labels in their colours, and the uncertainty in nats."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.maps.metadata import CLASSES, COLOURS
from cytoseg.maps.raster import Raster
from cytoseg.quoting import short_repr
from cytoseg.slides.parser_errors import DAMAGE
from cytoseg.slides.pixel_size import number_in, plausible_mpp
from cytoseg.slides.tiff_check import open_pages

LayerData = tuple[Any, dict[str, Any], str]
"""Levels (or one array), arguments of the layer, and its kind, in the form that napari takes from a reader."""

_KINDS = {"class_map.ome.tif": "classes", "instances.ome.tif": "objects", "uncertainty.ome.tif": "uncertainty"}


@dataclass(frozen=True)
class LazyLevel:
    """One level of a map as an array of which only the indexed part is read.

    Attributes:
        raster: The open map.
        level: Index into its levels.
    """

    raster: Raster
    level: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        size = self.raster.levels[self.level].size
        return size.height, size.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values."""
        return self.raster.dtype

    @property
    def ndim(self) -> int:
        """Always 2."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        wanted = [*key] if isinstance(key, tuple) else [key]
        if Ellipsis in wanted:
            wanted[(at := wanted.index(Ellipsis)) : at + 1] = [slice(None)] * (3 - len(wanted))
        rows, columns = [*wanted, slice(None)][:2]
        lines, places = np.arange(self.shape[0])[rows], np.arange(self.shape[1])[columns]
        found = self.raster.sample(np.atleast_1d(lines), np.atleast_1d(places), self.level)
        return found.reshape(lines.shape + places.shape)[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


def reader_of(path: str | os.PathLike[str] | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return the reader for a file that napari is asked to open, None if it is not one of our maps.

    Args:
        path: The file; a list is a stack, which maps never are.
    """
    if isinstance(path, list) or Path(path).name not in _KINDS or not Path(path).is_file():
        return None
    return read_map


def read_map(path: str | os.PathLike[str]) -> list[LayerData]:
    """Open a map from ``cytoseg predict`` as a layer with all its levels.

    Class and instance maps become labels, classes in the colours of the recipe and with their names in the status bar;
    the uncertainty becomes an image in nats. Lengths are micrometres if the map states its pixel size.

    Args:
        path: ``class_map.ome.tif``, ``instances.ome.tif`` or ``uncertainty.ome.tif``.

    Raises:
        SlideError: If it is missing or damaged.
    """
    file = Path(path)
    kind = _KINDS.get(file.name, "objects")
    notes, mpp = _metadata(file)
    options = {"name": f"{file.parent.name}: {kind}"} | _look(kind, notes, file)
    if mpp is not None:
        options |= {"scale": (mpp, mpp), "units": ("um", "um")}
    raster = Raster(file)
    levels = [LazyLevel(raster, index) for index in range(len(raster.levels))]
    options["multiscale"] = len(levels) > 1
    if len(levels) > 1:
        data: Any = levels
    else:  # napari refuses a list of one level
        with raster:
            data = np.asarray(levels[0])
    return [(data, options, "image" if kind == "uncertainty" else "labels")]


def _look(kind: str, notes: Mapping[str, Mapping[int, str]], file: Path) -> dict[str, Any]:
    """Choose the colours of a layer, and the texts for the status bar."""
    if kind == "uncertainty":
        return {"colormap": "magma", "blending": "additive"}
    if COLOURS not in notes:
        return {}
    colours = {class_id: _rgba(text, file) for class_id, text in notes[COLOURS].items()}
    names = notes.get(CLASSES, {})
    return {
        "colormap": {None: (0.0, 0.0, 0.0, 0.0)} | colours,
        "features": {"index": list(names), "class": list(names.values())},
    }


def _metadata(file: Path) -> tuple[dict[str, dict[int, str]], float | None]:
    """Read the annotations with ids as keys, and the pixel size in micrometres."""
    try:
        with open_pages(file) as tif:
            root = ElementTree.fromstring(tif.ome_metadata or "<OME/>")
            found = {
                element.get("Namespace", ""): {
                    int(pair.get("K", "")): pair.text or ""
                    for pair in element.iter()
                    if pair.tag.endswith("}M") and pair.get("K", "").isdecimal()
                }
                for element in root.iter()
                if element.tag.endswith("}MapAnnotation")
            }
            sizes = [element.get("PhysicalSizeX", "") for element in root.iter() if element.tag.endswith("}Pixels")]
    except DAMAGE as error:  # among them a ParseError
        raise SlideError(f"{file.name}: cannot be read ({error}). Predict the slide again.") from error
    size = number_in(sizes[0]) if sizes else None
    return found, None if size is None else plausible_mpp(size)


def _rgba(text: str, file: Path) -> tuple[float, ...]:
    """Convert ``#rrggbb`` to fractions, opaque."""
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise SlideError(f"{file.name}: {short_repr(text)} is not a colour. Predict the slide again.")
    return (*(int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0)
