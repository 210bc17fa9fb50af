"""Finding and writing the objects of a predicted slide."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoseg.errors import SlideError
from cytoseg.geometry import Region
from cytoseg.maps.map_file import MapFile
from cytoseg.maps.map_spool import IDS
from cytoseg.maps.metadata import about_instances
from cytoseg.objects.connected_components import FoundAreas, connected_areas
from cytoseg.objects.map_blocks import LINE_PX
from cytoseg.objects.nearest_nucleus import territories
from cytoseg.objects.object_writer import CELLS, ObjectWriter, SlideMaps
from cytoseg.objects.settings import ClassTotals, ObjectSettings, ObjectTotals
from cytoseg.slides.pyramid import write_pyramid

INSTANCES = "instances.ome.tif"

LARGEST_PX = 2**22
"""Largest bounding box of a component that is processed, such as 2048 x 2048 px; sheets of cells can exceed it. One of
this size takes 130 MB, or 560 MB if a noisy class is split."""

Strips = Iterator[NDArray[Any]]

_PASSES = 3
"""How often the rows of the maps are read: to find components, to outline them, to write the map of their ids."""


def write_objects(
    folder: Path, maps: SlideMaps, *, settings: ObjectSettings, on_row: Callable[[int, int], None]
) -> ObjectTotals:
    """Find the objects of a slide; write their outlines, their measurements and the map of their ids.

    Ids count from 1 in reading order, lines of 256 rows from top to bottom; parts of a split component are consecutive.
    The same maps and slide give the same files.

    Args:
        folder: Folder of objects.geojson, cells.csv, instances.ome.tif and temporary files.
        maps: The finished maps.
        settings: Object settings.
        on_row: Called with the rows done and the height of the maps. Each of three passes counts for a third of a row.

    Returns:
        How many objects there are.

    Raises:
        SlideError: If the slide is damaged.
        OSError: If the disk is full.
    """
    width, height = maps.size.width, maps.size.height
    progress = _Progress(on_row, height)
    found = connected_areas(
        progress.watch(maps.spool.strips(IDS)),
        width=width,
        wanted=maps.of_class(*settings.classes),
        least_px=settings.least_px,
        line_px=LINE_PX,
    )
    totals = _left_out(found, maps, settings)
    writer = ObjectWriter(folder, maps, settings, totals)
    with writer.outlines, writer.table:
        for area in found.kept:
            top, seed_x = divmod(int(area["seed"]), width)
            place = _place(area, top)
            if place.width * place.height <= LARGEST_PX:
                writer.add(place, class_id=int(area["class_id"]), seed_x=seed_x)
            progress.reach(height + top // LINE_PX * LINE_PX)
    progress.reach(2 * height)
    contacts = writer.contacts()
    _write_instances(folder, contacts.watch(progress.watch(writer.painter.strips())), maps)
    partners = writer.partners(contacts)
    with MapFile(folder / INSTANCES, ids=True) as instances:
        shares = territories(instances, partners, writer.boxes())
    writer.table.write(folder / CELLS, names=maps.classes.names, partners=partners, shares=shares)
    return ObjectTotals(totals)


class _Progress:
    """Reports the rows done, each pass counting for a third."""

    def __init__(self, on_row: Callable[[int, int], None], height: int) -> None:
        self._on_row, self._height, self._done = on_row, height, 0
        on_row(0, height)

    def reach(self, rows: int) -> None:
        """Report that ``rows`` are done, counted over all passes."""
        if rows > self._done:
            self._done = rows
            self._on_row(rows // _PASSES, self._height)

    def watch(self, strips: Strips) -> Strips:
        for strip in strips:
            rows = len(strip)
            yield strip
            del strip
            self.reach(self._done + rows)


def _place(area: "np.void", top: int) -> Region:
    left, right, bottom = int(area["left"]), int(area["right"]), int(area["bottom"])
    return Region(left, top, right - left, bottom - top)


def _left_out(found: FoundAreas, maps: SlideMaps, settings: ObjectSettings) -> dict[str, ClassTotals]:
    """Count the components that are too small or too large."""
    kept = found.kept
    height = kept["bottom"] - kept["seed"] // maps.size.width
    sheets = kept[(kept["right"].astype(np.int64) - kept["left"]) * height > LARGEST_PX]
    totals = {}
    for class_id, name in enumerate(maps.classes.names):
        if name in settings.classes:
            own = sheets[sheets["class_id"] == class_id]
            totals[name] = ClassTotals(
                dropped=int(found.dropped[class_id]),
                dropped_px=int(found.dropped_px[class_id]),
                sheets=len(own),
                sheets_px=int(own["pixels"].sum()),
            )
    return totals


def _write_instances(folder: Path, strips: Strips, maps: SlideMaps) -> None:
    try:
        write_pyramid(
            folder / INSTANCES,
            strips,
            size=maps.size,
            mpp=maps.mpp,
            categorical=True,
            about=about_instances(maps.slide.path.name, file=INSTANCES),
        )
    except SlideError as error:
        # The strips come from our own files: only writing can fail.
        raise OSError(getattr(error.__cause__, "strerror", None) or str(error)) from error
