"""Drawing neutrophils, red cells and debris on synthetic slides.

None of it has a class: on glass it is background, on a cell the pixels keep the cell's class. A plain colour threshold
mistakes it for nuclei.
"""

import numpy as np
from scipy import ndimage

from cytoseg.synthetic.cells import Paint
from cytoseg.synthetic.plan import Item
from cytoseg.synthetic.shapes import Grid, Stamp, beyond, bump, cover, ellipse, make_grid
from cytoseg.synthetic.stains import Colour
from cytoseg.synthetic.textures import FloatMap, window


def draw_debris(item: Item, paint: Paint) -> Stamp:
    """Draw a neutrophil, a red cell or a piece of debris according to its kind.

    Args:
        item: Item of the plan.
        paint: Paint of the slide.

    Returns:
        A stamp without a class.
    """
    rng = np.random.default_rng(item.seed)
    grid = make_grid(item.x, item.y, item.reach_px)
    draw = {"neutrophil": _neutrophil, "red cell": _red_cell, "debris": _debris}[item.kind]
    return Stamp(grid.x, grid.y, draw(item, grid, rng, paint))


def _neutrophil(item: Item, grid: Grid, rng: np.random.Generator, paint: Paint) -> tuple[tuple[FloatMap, Colour], ...]:
    """Draw two to four dark lobes on an arc, in a faint body."""
    lobes, unit = int(rng.integers(2, 5)), np.float32(1 / paint.mpp)
    start, bend = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 1.7)
    pull: FloatMap = np.zeros((grid.side_px, grid.side_px), np.float32)
    for lobe in range(lobes):
        angle = start + bend * (lobe - (lobes - 1) / 2)
        size = np.float32(rng.uniform(1.05, 1.6)) * unit
        x, y = (np.float32(2.0 * trig(angle)) * unit for trig in (np.cos, np.sin))
        pull += np.exp(-((grid.dx - x) ** 2 + (grid.dy - y) ** 2) / size**2)
    dark = np.clip((pull - 0.35) * np.float32(2.2 + paint.mpp), 0, 1) * np.float32(rng.uniform(0.8, 1.5))
    dark *= 1 + 0.12 * window(paint.textures.mottle, grid.side_px, rng)
    body = cover(beyond(ellipse(rng, item.radius_px, aspect=1.15, uneven=0.06), grid.dx, grid.dy), 1.0 / paint.mpp)
    if rng.random() < 0.3:
        dark = ndimage.gaussian_filter(dark, rng.uniform(0.3, 1.0) / paint.mpp, truncate=2.5)
    pale = paint.stain.cyanophilic[0]
    return (dark, paint.stain.nucleus), (body * np.float32(rng.uniform(0.0, 0.22)), pale)


def _red_cell(item: Item, grid: Grid, rng: np.random.Generator, paint: Paint) -> tuple[tuple[FloatMap, Colour], ...]:
    """Draw a pale disc with a paler centre."""
    distance = beyond(ellipse(rng, item.radius_px, aspect=rng.uniform(1, 1.5), uneven=0.05), grid.dx, grid.dy)
    ring = cover(distance, 1.5) * (np.float32(0.35) + bump(distance + 1.0 / paint.mpp, 1.0 / paint.mpp))
    return ((ring * np.float32(rng.uniform(0.25, 0.6)), paint.stain.eosinophilic[1]),)


def _debris(item: Item, grid: Grid, rng: np.random.Generator, paint: Paint) -> tuple[tuple[FloatMap, Colour], ...]:
    """Draw a shapeless speck: dirt, a stripped pyknotic nucleus, dust far out of focus."""
    outline = ellipse(rng, item.radius_px, aspect=1 + rng.gamma(1.0, 0.5), uneven=0.2)
    ragged = window(paint.textures.mottle, grid.side_px, rng) * np.float32(rng.uniform(0, 0.7) / paint.mpp)
    speck = cover(beyond(outline, grid.dx, grid.dy) + ragged, 1.5) * np.float32(rng.uniform(0.3, 1.3))
    speck *= 1 + 0.25 * window(paint.textures.mottle, grid.side_px, rng)
    blur_px = float(rng.choice([0.2, 0.6, 1.4], p=[0.45, 0.3, 0.25])) / paint.mpp
    colour = paint.stain.nucleus if rng.random() < 0.4 else paint.stain.speck
    return ((ndimage.gaussian_filter(np.maximum(speck, 0), blur_px, truncate=2.5), colour),)
