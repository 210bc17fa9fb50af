"""Watershed that splits touching objects of a class."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from cytoseg.objects.padded_mask import padded

CORNERS = np.ones((3, 3), np.bool_)
"""8-connectivity, as in ``connected_components``."""

SMOOTHING_PX = 1.0
"""Gaussian smoothing of the distances, so that a jagged outline does not create seeds."""

DEPTH_PX = 0.5
"""How much thinner than both sides a neck must be to be split, as a radius. On synthetic ellipses of radius 4 to 20 px
(tests/benchmarks/results/splitting.md) half a pixel splits all pairs with centres 1.8 radii apart, four of five at
1.6, and keeps 97 of 100 slightly wavy single ones intact; seeds with a minimum distance do worse on one of these."""

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]


def label_objects(mask: Mask, *, split: bool, least_px: int) -> Labels:
    """Label the objects of one class in a crop.

    Args:
        mask: (H, W) bool, the pixels of the class.
        split: Whether touching objects are split.
        least_px: Smaller objects are dropped.

    Returns:
        (H, W) int32: 0 for no object, then 1, 2, ...
    """
    areas, _ = ndimage.label(mask, CORNERS)
    objects, count = np.zeros(mask.shape, np.int32), 0
    for number, place in enumerate(ndimage.find_objects(areas), start=1):
        area = areas[place] == number
        if np.count_nonzero(area) < least_px:
            continue
        parts = split_touching(area, least_px=least_px) if split else area.astype(np.int32)
        objects[place][area] = parts[area] + count
        count += int(parts.max())
    return objects


def split_touching(area: Mask, *, least_px: int) -> Labels:
    """Split a component at its necks by a watershed on the distance to its outline.

    Seeds are the h-maxima of the smoothed distance with h = ``DEPTH_PX``. A part smaller than ``least_px`` is merged
    into its neighbours.

    Args:
        area: (H, W) bool, one component; everything beyond the array is outside.
        least_px: Smallest part.

    Returns:
        (H, W) int32: 0 outside, else 1, 2, ... by the first pixel of each part's seed; each part is connected.

    Source: Soille, Morphological Image Analysis, 2nd ed. (2003), chapters 6 and 9.
    """
    inside = padded(area)
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside), SMOOTHING_PX)
    distance[~inside] = 0
    seeds = _seeds(distance, inside)
    while seeds.max() > 1:
        parts = watershed(-distance, seeds, connectivity=CORNERS, mask=inside)
        small = np.bincount(parts.ravel()) < least_px
        small[0] = False
        if not small.any():
            return np.asarray(parts[1:-1, 1:-1], np.int32)
        seeds = _without(seeds, small)
    return area.astype(np.int32)


def _seeds(distance: NDArray[np.float64], inside: Mask) -> Labels:
    # Most components have one peak, which this detects fast; on a plateau it finds too many, never too few.
    seeds, count = ndimage.label((ndimage.maximum_filter(distance, 3) == distance) & inside, CORNERS)
    if count > 1:
        flooded = reconstruction(distance - DEPTH_PX, distance, footprint=CORNERS)
        seeds, _ = ndimage.label(local_maxima(flooded, connectivity=2) & inside, CORNERS)
    return np.asarray(seeds, np.int32)


def _without(seeds: Labels, small: Mask) -> Labels:
    """Remove the seeds of small parts, at least one, but never all."""
    kept = np.flatnonzero(~small)[1:]
    if not len(kept):
        kept = np.array([1])
    table = np.zeros(len(small), np.int32)
    table[kept] = np.arange(1, len(kept) + 1)
    return table[seeds]
