"""Dividing a cytoplasm among its nuclei by nearest nucleus."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.geometry import Region
from cytoseg.maps.map_file import MapFile
from cytoseg.objects.cell_table import Partners


def territories(instances: MapFile, partners: Partners, boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Divide each cytoplasm with several nuclei among them.

    Overlapping cells form one cytoplasm without visible borders. Assigning each pixel to the nearest nucleus, as in a
    Voronoi diagram, is the best guess.

    Args:
        instances: The map of instance ids.
        partners: Assignment of nuclei to cytoplasms.
        boxes: (N + 1, 4) by instance id: x, y, width and height of its bounding box in the map.

    Returns:
        (N + 1,) int64, pixels by instance id of a nucleus; 0 for other objects and for nuclei without a shared
        cytoplasm.

    Raises:
        PredictionError: If the map is damaged.
    """
    found = np.zeros(len(partners.pixels), np.int64)
    for number in np.flatnonzero(partners.is_cytoplasm & (partners.nuclei > 1)).tolist():
        x, y, width, height = boxes[number].tolist()
        # A nucleus at the edge may lie outside except for the touching pixel.
        place = Region(x - 1, y - 1, width + 2, height + 2)
        ids = instances.read(place.x, place.y, width=place.width, height=place.height)
        nearest, pixels = np.unique(_nearest_nuclei(ids, number, partners.cytoplasm), return_counts=True)
        found[nearest] = pixels
    return found


def _nearest_nuclei(ids: NDArray[np.uint32], cytoplasm: int, cytoplasm_of: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the nearest nucleus for each pixel of a cytoplasm."""
    is_own = cytoplasm_of[ids] == cytoplasm
    row, column = ndimage.distance_transform_edt(~is_own, return_distances=False, return_indices=True)
    inside = ids == cytoplasm
    nearest: NDArray[np.uint32] = ids[row[inside], column[inside]]
    return nearest
