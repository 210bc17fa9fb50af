"""k-means cluster maps of a feature set, without labels."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from cytoseg.features.extract import NativeFeatures, check_finite, gather
from cytoseg.studies.probe import Extract

CLUSTERS = 5
SIDE = 128
"""Longest side of a map; larger images are subsampled."""
_SAMPLE = 500
_AT_ONCE = 4096
# Viridis from light to dark: distinguishable for colour-blind people and in grey.
_COLOURS = ("#fde725", "#5ec962", "#21918c", "#3b528b", "#440154")

Picture = NDArray[np.uint8]


def cluster_maps(
    extract: Extract, pictures: Sequence[Picture], *, seed: int, on_crop: Callable[[], None] = lambda: None
) -> list[Picture]:
    """Cluster the pixels of images by k-means on standardised features.

    Clusters are fitted on pixels away from the edges, where an undertrained network sees only the edge. They are the
    same in all images, numbered from light to dark, so that the maps of two feature sets are comparable.

    Args:
        extract: Returns the features of an image; called twice for each, because all would not fit in memory.
        pictures: Each (H, W, 3) uint8 RGB.
        seed: Seed of the fitted pixels and of the initial centres.
        on_crop: Called after each reading of an image.

    Returns:
        One (h, w) uint8 map of clusters per image, h and w the image's divided by its ``stride_of``, rounded up.

    Raises:
        CheckpointError: If a feature is not finite.
    """
    rng = np.random.default_rng(seed)
    sample = []
    for number, picture in enumerate(pictures):
        pixels = rng.permutation(_inner_pixels_of(picture))[:_SAMPLE]
        sample.append(gather(extract(picture), pixels).cpu())
        check_finite(sample[-1], crop=f"image {number + 1}")
        on_crop()
    rows = np.concatenate([found.numpy() for found in sample])
    mean, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    clusters = KMeans(min(CLUSTERS, len(rows)), n_init=3, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # images of only glass have fewer distinct pixels
        clusters.fit((rows - mean) / scale)
    maps = []
    for picture in pictures:
        features = extract(picture)
        blocks = [clusters.predict((block - mean) / scale) for block in _blocks(features, _pixels_of(picture))]
        maps.append(np.concatenate(blocks).astype(np.uint8).reshape(_small(picture).shape[:2]))
        on_crop()
    return _light_to_dark(maps, pictures)


def draw_maps(pictures: Sequence[Picture], columns: Mapping[str, Sequence[Picture]]) -> Figure:
    """Draw each image with the cluster maps of several feature sets beside it.

    Args:
        pictures: Each (H, W, 3) uint8 RGB; a row each.
        columns: Title to one map per image.
    """
    across, down = 1 + len(columns), len(pictures)
    figure = Figure(figsize=(2.6 * across, 2.6 * down + 0.6), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    for row, picture in zip(range(down), pictures, strict=True):
        panels[row, 0].imshow(picture, interpolation="nearest")
        for column, maps in enumerate(columns.values(), start=1):
            _draw_map(panels[row, column], maps[row])
    for panel, title in zip(panels[0], ("image", *columns), strict=True):
        panel.set_title(title, fontsize="medium", parse_math=False)
    for panel in panels.ravel():
        panel.set(xticks=[], yticks=[])
    figure.suptitle("Pixels grouped into five clusters, from yellow (lightest) to violet (darkest)", fontsize="medium")
    return figure


def stride_of(picture: Picture) -> int:
    """Return the subsampling stride for a map of at most ``SIDE`` along each side."""
    longest: int = max(picture.shape[:2])
    return math.ceil(longest / SIDE)


def _draw_map(panel: Axes, clusters: Picture) -> None:
    panel.imshow(clusters, cmap=ListedColormap(_COLOURS), vmin=0, vmax=CLUSTERS - 1, interpolation="nearest")


def _small(picture: Picture) -> Picture:
    return picture[:: stride_of(picture), :: stride_of(picture)]


def _inner_pixels_of(picture: Picture) -> NDArray[np.int64]:
    """Exclude an eighth of the shorter side along each edge."""
    pixels, margin = _pixels_of(picture), min(picture.shape[:2]) // 8
    last = np.array([picture.shape[1], picture.shape[0]]) - 1 - margin
    inner: NDArray[np.int64] = pixels[((pixels >= margin) & (pixels <= last)).all(axis=1)]
    return inner


def _pixels_of(picture: Picture) -> NDArray[np.int64]:
    """Return (P, 2) of (x, y), row after row."""
    y, x = np.mgrid[: picture.shape[0] : stride_of(picture), : picture.shape[1] : stride_of(picture)]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64)


def _blocks(features: NativeFeatures, pixels: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    for first in range(0, len(pixels), _AT_ONCE):
        yield gather(features, pixels[first : first + _AT_ONCE]).cpu().numpy()


def _light_to_dark(maps: Sequence[Picture], pictures: Sequence[Picture]) -> list[Picture]:
    grey = np.concatenate([_small(picture).mean(axis=2).ravel() for picture in pictures])
    ids = np.concatenate([found.ravel() for found in maps])
    pixels = np.bincount(ids, minlength=CLUSTERS)
    lightness = np.bincount(ids, weights=grey, minlength=CLUSTERS) / np.maximum(pixels, 1)
    place = (-lightness).argsort(kind="stable").argsort().astype(np.uint8)
    return [place[found] for found in maps]
