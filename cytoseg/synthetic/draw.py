"""Rendering regions of a synthetic slide."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cytoseg.geometry import Region
from cytoseg.synthetic.cells import CELL_STYLES, Paint, draw_cell
from cytoseg.synthetic.debris import draw_debris
from cytoseg.synthetic.plan import BLOCK_UM, CELL_KINDS, Plan, items_in, make_plan, shares_with
from cytoseg.synthetic.shapes import Stamp
from cytoseg.synthetic.stains import STAINS
from cytoseg.synthetic.textures import ATLAS_PX, Field, FloatMap, make_field, make_textures

CHUNK_PX = 1024
"""Width of the chunks in which images are finished, to limit memory to the optical densities."""


@dataclass(frozen=True)
class Scene:
    """Complete description of a synthetic slide.

    Attributes:
        seed: Seed of the slide.
        plan: Positions of the items.
        paint: Shared drawing resources.
        mucus: Field whose zero level set gives the strands of mucus.
        dirt: Density field of mucus and bacteria.
        lamp: Illumination field.
    """

    seed: int
    plan: Plan
    paint: Paint
    mucus: Field
    dirt: Field
    lamp: Field


def make_scene(seed: int, *, mpp: float, stain: str) -> Scene:
    """Set up a slide deterministically.

    Args:
        seed: Which slide, 0 or more.
        mpp: Micrometres per pixel.
        stain: A key of ``STAINS``.

    Returns:
        The scene.
    """
    rng = np.random.default_rng([seed, 5])
    textures = make_textures(seed, mpp=mpp, margin_px=max(ATLAS_PX, 2 * round(BLOCK_UM / mpp) + 1))
    return Scene(
        seed=seed,
        plan=make_plan(seed, mpp=mpp, leucocytes=STAINS[stain].leucocytes),
        paint=Paint(STAINS[stain], textures, mpp),
        mucus=make_field(rng, shortest_px=90 / mpp, longest_px=600 / mpp, stretch=3.0),
        dirt=make_field(rng, shortest_px=200 / mpp, longest_px=1200 / mpp),
        lamp=make_field(rng, shortest_px=900 / mpp, longest_px=4000 / mpp),
    )


def with_dyskaryotic(scene: Scene, share: float) -> Scene:
    """Change the share of dyskaryotic cells, 0 to 1; places, sizes and everything else of a slide depend on it."""
    return replace(scene, plan=replace(scene.plan, shares=shares_with(share)))


def draw_kinds(scene: Scene, region: Region) -> NDArray[np.uint8]:
    """Draw the kind map of a region: which kind of cell each labelled pixel belongs to.

    As in the label map a nucleus lies above all cytoplasm; among nuclei, and among sheets of cytoplasm, the last drawn
    is on top.

    Args:
        scene: The slide.
        region: In level-0 pixels.

    Returns:
        (H, W) uint8, the place in ``CELL_KINDS`` plus 1; 0 where the label map has background.
    """
    kinds = np.zeros((region.height, region.width), np.uint8)
    labels = np.zeros_like(kinds)
    for item in items_in(scene.plan, region):
        for stamp in draw_cell(item, scene.paint) if item.kind in CELL_STYLES else ():
            overlap = _overlap(stamp, region)
            if overlap is not None and stamp.inside is not None:
                there, part = overlap
                on_top = stamp.inside[part] & (labels[there] <= stamp.class_id)
                labels[there][on_top] = stamp.class_id
                kinds[there][on_top] = CELL_KINDS.index(item.kind) + 1
    return kinds


def draw_region(scene: Scene, region: Region) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a region; a pixel does not depend on the region it is drawn with.

    Args:
        scene: The slide.
        region: In level-0 pixels.

    Returns:
        (H, W, 3) uint8 RGB and the (H, W) uint8 label map: 0 background, 1 cytoplasm, 2 nucleus.
    """
    density = np.zeros((region.height, region.width, 3), np.float32)
    labels = np.zeros((region.height, region.width), np.uint8)
    for item in items_in(scene.plan, region):
        stamps = draw_cell(item, scene.paint) if item.kind in CELL_STYLES else [draw_debris(item, scene.paint)]
        for stamp in stamps:
            _press(stamp, region, density, labels)
    picture = np.empty(density.shape, np.uint8)
    for left in range(0, region.width, CHUNK_PX):
        chunk = slice(left, left + CHUNK_PX)
        width = min(CHUNK_PX, region.width - left)
        place = Region(region.x + left, region.y, width, region.height)
        picture[:, chunk] = _photograph(scene, place, density[:, chunk])
    return picture, labels


def _press(stamp: Stamp, region: Region, density: FloatMap, labels: NDArray[np.uint8]) -> None:
    """Add the part of a stamp inside the region: densities add up (Beer-Lambert); the larger class id wins."""
    overlap = _overlap(stamp, region)
    if overlap is None:
        return
    there, part = overlap
    for thickness, colour in stamp.layers:
        for channel, value in enumerate(colour):
            density[(*there, channel)] += thickness[part] * np.float32(value)
    if stamp.inside is not None:
        np.maximum(labels[there], stamp.inside[part] * np.uint8(stamp.class_id), out=labels[there])


def _overlap(stamp: Stamp, region: Region) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Return where a stamp and a region overlap, as slices of the region and of the stamp; None if they do not."""
    height, width = stamp.layers[0][0].shape
    x, y = stamp.x - region.x, stamp.y - region.y
    left, top = max(0, x), max(0, y)
    right, bottom = min(region.width, x + width), min(region.height, y + height)
    if left >= right or top >= bottom:
        return None
    return (slice(top, bottom), slice(left, right)), (slice(top - y, bottom - y), slice(left - x, right - x))


def _photograph(scene: Scene, region: Region, density: FloatMap) -> NDArray[np.uint8]:
    """Apply illumination, absorption and camera noise."""
    x, y = np.arange(region.x, region.x + region.width), np.arange(region.y, region.y + region.height)
    film = _film(scene, x, y)
    light = 1 + np.float32(0.02) * scene.lamp.over(x, y)
    stain = scene.paint.stain
    picture = np.empty(density.shape, np.uint8)
    noise = scene.paint.textures.noise
    for channel in range(3):
        absorbed = density[..., channel] + film * np.float32(stain.speck[channel])
        seen = np.exp(-absorbed) * light * np.float32(255 * stain.glass[channel])
        # Each channel has its own noise window, which repeats after 512 px.
        grain = noise[np.ix_((y + 171 * channel) % ATLAS_PX, (x + 97 * channel) % ATLAS_PX)]
        seen += grain * (np.float32(1.0) + np.float32(0.006) * seen)
        picture[..., channel] = np.clip(seen + np.float32(0.5), 0, 255)
    return picture


def _film(scene: Scene, x: NDArray[np.int64], y: NDArray[np.int64]) -> FloatMap:
    """Draw strands of mucus and, on unwashed slides, bacteria: (h, w) thickness."""
    dirt = scene.dirt.over(x, y)
    along = scene.mucus.over(x, y)
    dirty = np.clip(dirt - np.float32(0.7), 0, 1)
    strand = np.exp(-((along / np.float32(0.16)) ** 2)) * (
        1 + np.float32(0.15) * np.cos(along * np.float32(60) + dirt * np.float32(40))
    )
    film: FloatMap = np.float32(0.3) * dirty * strand
    if scene.paint.stain.film:
        dots = scene.paint.textures.granule[np.ix_(y % ATLAS_PX, x % ATLAS_PX)]
        film += dots * np.clip(dirt + np.float32(0.2), 0, 1) * np.float32(scene.paint.stain.film)
    return film
