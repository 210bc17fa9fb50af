"""Overlays of label maps, class maps and disagreement, and the colour ramp of disagreement."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from cytoseg.classes import IGNORE, ClassList

HATCH = (90, 90, 90)
"""Colour of the stripes over ignored pixels."""
VEIL = 0.3
"""Opacity of a class's colour inside its outline."""

RAMP: tuple[tuple[int, int, int], ...] = ((12, 8, 38), (87, 15, 109), (187, 55, 84), (249, 142, 9), (252, 255, 164))
"""Colours from agreement to disagreement: dark to light, readable in grey and for colour-blind people."""

FAINTEST_NATS = 0.05
"""Below this the ensemble agrees, and contrast stretching would amplify noise."""

Colours = Sequence[tuple[int, int, int]]
Picture = NDArray[np.uint8]


def overlay(picture: NDArray[np.uint8], label_map: NDArray[np.uint8], classes: ClassList) -> NDArray[np.uint8]:
    """Overlay a label map on an image.

    Args:
        picture: (H, W, 3) uint8 RGB.
        label_map: (H, W) uint8 ids, 255 for ignore.
        classes: Colours; the fill class is not tinted.

    Returns:
        (H, W, 3) uint8 RGB: classes tinted and outlined in their colour, ignore hatched in grey.
    """
    colours = classes.colour_table()[label_map].astype(np.float64)
    ignored = label_map == IGNORE
    veiled = (~ignored & (label_map != classes.fill_id))[..., None]
    out = np.where(veiled, (1 - VEIL) * picture + VEIL * colours, picture)
    row, column = np.indices(label_map.shape)
    out[ignored & ((row + column) % 8 < 2)] = HATCH
    edge = _edges(label_map) & veiled[..., 0]
    out[edge] = colours[edge]
    return np.rint(out).astype(np.uint8)


def outline(picture: Picture, mask: NDArray[np.bool_], *, width_px: int = 2) -> Picture:
    """Outline an area so that it stands out on any colour: white inside its edge, black outside.

    Args:
        picture: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, True in the area.
        width_px: Width of each of the two lines.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    out = picture.copy()
    out[binary_dilation(mask, iterations=width_px) & ~mask] = 0
    out[mask & ~binary_erosion(mask, iterations=width_px, border_value=1)] = 255
    return out


def _edges(label_map: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark the pixels with a different id beside, above or below them, (H, W) bool."""
    edges = np.zeros(label_map.shape, np.bool_)
    across, down = label_map[:, 1:] != label_map[:, :-1], label_map[1:] != label_map[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def paint_classes(
    picture: Picture, label_map: Picture, *, colours: Colours, shown: Collection[int], opacity: float
) -> Picture:
    """Overlay class colours on an image.

    Args:
        picture: (H, W, 3) uint8.
        label_map: (H, W) uint8 ids; ids beyond the class list, such as ignore, are not painted.
        colours: One colour per class, in the order of the ids.
        shown: Ids of the classes to paint.
        opacity: 0 shows only the image, 1 only the colours.

    Returns:
        (H, W, 3) uint8.
    """
    table = np.zeros((256, 3), np.float32)
    table[: len(colours)] = np.array(colours, np.float32).reshape(-1, 3)
    painted = np.isin(label_map, [class_id for class_id in shown if class_id < len(colours)])
    return _blend(picture, table[label_map], painted * np.float32(opacity))


def paint_disagreement(picture: Picture, disagreement: Picture, *, opacity: float) -> Picture:
    """Overlay the disagreement colours on an image.

    Args:
        picture: (H, W, 3) uint8.
        disagreement: (H, W) uint8, 0 where all interpreters agree.
        opacity: 0 shows only the image, 1 only the disagreement.

    Returns:
        (H, W, 3) uint8.
    """
    return _blend(picture, ramp_table()[disagreement], np.full(disagreement.shape, opacity, np.float32))


def class_veil(ids: Picture, colours: Colours, *, clear: int) -> Picture:
    """Colour a class map as a transparent overlay.

    Args:
        ids: (H, W) uint8; other ids are transparent.
        colours: Class colours.
        clear: Id of the transparent class.

    Returns:
        (H, W, 4) uint8 RGBA.
    """
    table = np.zeros((256, 4), np.uint8)
    table[: len(colours)] = [(*colour, 255) for colour in colours]
    table[clear] = 0
    return table[ids]


def disagreement_veil(nats: NDArray[np.float32], *, max_nats: float) -> Picture:
    """Colour a disagreement as an overlay, transparent where all agree, (H, W, 4) uint8 RGBA.

    Args:
        nats: (H, W) float32.
        max_nats: The value of the last colour; larger values are clipped.
    """
    grey = np.clip(255 * nats / max_nats, 0, 255).astype(np.uint8)
    return np.dstack(
        [ramp_table()[grey].round().astype(np.uint8), np.minimum(255, 2 * grey.astype(int)).astype(np.uint8)]
    )


def ramp_table() -> NDArray[np.floating]:
    """Return the disagreement colours for values 0 to 255, (256, 3) float64."""
    stops = np.linspace(0, 255, len(RAMP))
    return np.stack([np.interp(np.arange(256), stops, channel) for channel in zip(*RAMP, strict=True)], axis=1)


def ramp_swatch(side_px: int) -> Picture:
    """Return squares of the ramp's colours side by side, (side, 5 side, 3) uint8."""
    return np.array(RAMP, np.uint8)[None].repeat(side_px, axis=0).repeat(side_px, axis=1)


def stretched(nats: NDArray[np.floating], *, faintest_nats: float = FAINTEST_NATS) -> tuple[Picture, float]:
    """Stretch a disagreement for display.

    Args:
        nats: (H, W), 0 where all interpreters agree.
        faintest_nats: Lower limit of the value shown as 255, to avoid amplifying noise.

    Returns:
        (H, W) uint8, and the value of 255 in nats: the 99.5 % quantile.
    """
    brightest = max(faintest_nats, float(np.percentile(nats, 99.5)))
    return np.rint(np.clip(nats / brightest, 0, 1) * 255).astype(np.uint8), brightest


def enlarge(picture: Picture, factor: int) -> Picture:
    """Enlarge by an integer factor with pixel replication; (H, W[, 3]) uint8."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def enlarge_smoothly(picture: Picture, factor: int) -> Picture:
    """Enlarge a colour image (H, W, 3) uint8 with smooth edges; never for ids."""
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(picture).resize((width * factor, height * factor), Image.Resampling.BICUBIC))


def _blend(picture: Picture, colours: NDArray[np.floating], alpha: NDArray[np.float32]) -> Picture:
    weight = alpha[..., None]
    return np.rint(picture * (1 - weight) + colours * weight).astype(np.uint8)
