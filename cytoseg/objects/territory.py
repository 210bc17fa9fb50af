"""Which part of a cytoplasm belongs to which of its nuclei: each pixel to the nearest one."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.geometry import Region
from cytoseg.maps.map_file import MapFile
from cytoseg.objects.cell_table import Partners


def territories(instances: MapFile, partners: Partners, boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Share out each cytoplasm that has several nuclei among them.

    Where cells lie on each other their cytoplasm grows into one area, and no border between them can be seen. By the
    nearest nucleus each gets what is most likely its own, as a Voronoi diagram of nuclei does.

    Args:
        instances: The map of instance ids.
        partners: Which nuclei each cytoplasm has.
        boxes: (N + 1, 4) by instance id: x, y, width and height of its rectangle in the map.

    Returns:
        (N + 1,) int64, pixels by instance id of a nucleus; 0 for all others, and for nuclei that have none to share.

    Raises:
        PredictionError: If the map is damaged.
    """
    found = np.zeros(len(partners.pixels), np.int64)
    for number in np.flatnonzero(partners.is_cytoplasm & (partners.nuclei > 1)).tolist():
        x, y, width, height = boxes[number].tolist()
        # A nucleus at the rim may lie outside, but for the pixel that touches.
        place = Region(x - 1, y - 1, width + 2, height + 2)
        ids = instances.read(place.x, place.y, width=place.width, height=place.height)
        nearest, pixels = np.unique(_nearest_nuclei(ids, number, partners.cytoplasm), return_counts=True)
        found[nearest] = pixels
    return found


def _nearest_nuclei(ids: NDArray[np.uint32], cytoplasm: int, cytoplasm_of: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Give for each pixel of a cytoplasm the nearest of its nuclei."""
    is_own = cytoplasm_of[ids] == cytoplasm
    row, column = ndimage.distance_transform_edt(~is_own, return_distances=False, return_indices=True)
    inside = ids == cytoplasm
    nearest: NDArray[np.uint32] = ids[row[inside], column[inside]]
    return nearest
