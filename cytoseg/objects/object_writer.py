"""Writing the objects of a connected component: rows, outlines, ids."""

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.classes import IGNORE, ClassList
from cytoseg.geometry import Region, Size
from cytoseg.maps.map_spool import MapSpool
from cytoseg.objects.cell_table import CellTable, Partners, Scale, measured_columns, measured_values
from cytoseg.objects.geojson import ObjectFile, Outlined
from cytoseg.objects.instance_map import Contacts, Painter
from cytoseg.objects.map_blocks import Window, WindowReader
from cytoseg.objects.measurements import Cutout, content_of, shape_of
from cytoseg.objects.settings import ClassTotals, ObjectSettings
from cytoseg.objects.watershed import CORNERS, split_touching
from cytoseg.slides.slide import Slide

OUTLINES = "objects.geojson"
ZIPPED_OUTLINES = f"{OUTLINES}.zip"
CELLS = "cells.csv"

_SHOWN = {
    "area_px": "area_px",
    "area_um2": "area_um2",
    "circularity": "circularity",
    "confidence_mean": "probability",
    "uncertainty_mean_nats": "uncertainty_nats",
}
"""Columns also written with the outlines, and their names there; cells.csv has all columns under the same id.
``area_px`` counts pixels of the maps."""


@dataclass(frozen=True)
class SlideMaps:
    """The finished maps of a slide.

    Attributes:
        spool: The maps.
        slide: The open slide.
        size: Size of the maps.
        downsample: Level-0 pixels that one pixel of the maps spans.
        mpp: Micrometres per pixel of the maps, or None if unknown.
        classes: Names and colours of the ids.
    """

    spool: MapSpool
    slide: Slide
    size: Size
    downsample: float
    mpp: float | None
    classes: ClassList

    def of_class(self, *names: str) -> NDArray[np.bool_]:
        """Return (256,) bool by class id, True for the named classes; unknown names are ignored."""
        found = np.zeros(256, np.bool_)
        found[[number for number, name in enumerate(self.classes.names) if name in names]] = True
        return found


class ObjectWriter:
    """Splits components in reading order into objects, numbers them and writes them.

    ``outlines`` and ``table`` must be open.

    Args:
        folder: Output folder.
        maps: The finished maps.
        settings: Object settings.
        totals: Totals by class name, updated.
    """

    def __init__(self, folder: Path, maps: SlideMaps, settings: ObjectSettings, totals: dict[str, ClassTotals]) -> None:
        self._maps, self._settings, self._totals = maps, settings, totals
        self._windows = WindowReader(maps.spool, maps.slide, size=maps.size, downsample=maps.downsample)
        self._scale = Scale(maps.downsample, maps.mpp)
        self.outlines = ObjectFile(
            folder / (ZIPPED_OUTLINES if settings.zip_outlines else OUTLINES),
            slide=maps.slide.path.name,
            classes=maps.classes,
            downsample=maps.downsample,
            exact=settings.exact_outlines,
        )
        self.table = CellTable(folder / f"{CELLS}.raw", self._scale)
        self.painter = Painter(folder, size=maps.size)
        # By instance id; 0 means no object.
        self._class_ids, self._pixels, self._boxes = array("B", [IGNORE]), array("q", [0]), array("q", [0] * 4)

    def add(self, place: Region, *, class_id: int, seed_x: int) -> None:
        """Write the objects of one component.

        Args:
            place: Its bounding box in the maps.
            class_id: Its class id.
            seed_x: Column of its first pixel in the first row of the box, in the maps.

        Raises:
            SlideError: If the slide is damaged there.
            OSError: If the disk is full.
        """
        name = self._maps.classes.names[class_id]
        window = self._windows.read(place)
        # Other components may reach into the box.
        areas, _ = ndimage.label(window.ids == class_id, CORNERS)
        area = areas == areas[0, seed_x - place.x]
        if name not in self._settings.split:
            self._write(area, window, class_id=class_id, x=place.x, y=place.y)
            return
        parts = split_touching(area, least_px=self._settings.least_px)
        boxes = ndimage.find_objects(parts)
        self._totals[name].split += len(boxes) > 1
        for number, box in enumerate(boxes, start=1):
            x, y = place.x + box[1].start, place.y + box[0].start
            self._write(parts[box] == number, window.part(*box), class_id=class_id, x=x, y=y)

    def contacts(self) -> Contacts:
        """Return the counter of contacts between nuclei and cytoplasms, once all objects are written."""
        return Contacts(self._are(self._settings.nucleus), self._are(self._settings.cytoplasm))

    def partners(self, contacts: Contacts) -> Partners:
        """Return the assignment of nuclei to cytoplasms."""
        partner, between = contacts.partners()
        cytoplasm, nucleus = self._are(self._settings.cytoplasm), self._are(self._settings.nucleus)
        return Partners(partner, cytoplasm, nucleus, np.array(self._pixels), between)

    def boxes(self) -> NDArray[np.int64]:
        """Return the bounding boxes of all objects in the map, (N + 1, 4) by instance id: x, y, width, height."""
        return np.array(self._boxes, np.int64).reshape(-1, 4)

    def _are(self, name: str) -> NDArray[np.bool_]:
        return np.asarray(self._maps.of_class(name)[np.array(self._class_ids)], np.bool_)

    def _write(self, mask: NDArray[np.bool_], window: Window, *, class_id: int, x: int, y: int) -> None:
        shape = shape_of(mask)
        content = content_of(Cutout(mask, window.picture, window.confidence, window.uncertainty))
        values = measured_values(shape, content, x=x, y=y, scale=self._scale)
        number = len(self._pixels)
        named = zip(measured_columns(self._scale), values, strict=True)
        shown = {_SHOWN[column]: value for column, value in named if column in _SHOWN}
        self.table.add(class_id, values)
        self.outlines.add(Outlined(number, class_id, x, y, mask, shown))
        self.painter.add(number, mask, x=x, y=y)
        self._class_ids.append(class_id)
        self._pixels.append(shape.pixels)
        self._boxes.extend((x, y, mask.shape[1], mask.shape[0]))
        totals = self._totals[self._maps.classes.names[class_id]]
        totals.objects += 1
        totals.pixels += shape.pixels
