"""Drawing the squamous cells of synthetic slides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.synthetic.plan import REACH, Item
from cytoseg.synthetic.shapes import Grid, Stamp, beyond, bump, cover, ellipse, make_grid, polygon
from cytoseg.synthetic.stains import Colour, Stain
from cytoseg.synthetic.textures import FloatMap, Textures, window

CYTOPLASM, NUCLEUS = 1, 2


@dataclass(frozen=True)
class CellStyle:
    """Appearance of one kind of cell.

    Attributes:
        eosinophilic: Probability of the pink-orange family; None for the stain's default.
        density: Minimum and maximum optical thickness of the cytoplasm.
        sharpness: Minimum and maximum sharpness of the corners; low is round.
        folds: Probability of a fold.
        nucleus_um: Minimum and maximum radius of the nucleus; 0 for none.
        nucleus_density: Minimum and maximum optical thickness of the nucleus.
        chromatin: Contrast of its chromatin clumps.
    """

    eosinophilic: float | None
    density: tuple[float, float]
    sharpness: tuple[float, float]
    folds: float
    nucleus_um: tuple[float, float]
    nucleus_density: tuple[float, float]
    chromatin: float


CELL_STYLES = {
    "superficial": CellStyle(0.75, (0.50, 1.15), (7, 18), 0.45, (2.1, 3.0), (0.95, 1.5), 0.06),
    "intermediate": CellStyle(None, (0.30, 1.05), (6, 18), 0.50, (3.0, 4.4), (0.50, 1.0), 0.20),
    "squame": CellStyle(0.8, (0.45, 1.2), (6, 18), 0.60, (0.0, 0.0), (0.0, 0.0), 0.0),
    "parabasal": CellStyle(0.12, (0.70, 1.4), (3, 5), 0.08, (3.6, 5.0), (0.55, 1.0), 0.24),
    "dyskaryotic": CellStyle(0.35, (0.50, 1.2), (4, 10), 0.25, (5.0, 9.5), (0.70, 1.25), 0.38),
}


@dataclass(frozen=True)
class Paint:
    """Shared resources for drawing the cells of a slide.

    Attributes:
        stain: Colours.
        textures: Grain.
        mpp: Micrometres per pixel.
    """

    stain: Stain
    textures: Textures
    mpp: float


def draw_cell(item: Item, paint: Paint) -> list[Stamp]:
    """Draw one squamous cell.

    Args:
        item: A cell of the plan.
        paint: Paint of the slide.

    Returns:
        A stamp of the cytoplasm (id 1) and one per nucleus (id 2).
    """
    rng = np.random.default_rng(item.seed)
    style = CELL_STYLES[item.kind]
    # Most cells are in focus; the rest lie above or below it.
    blur_px = float(rng.choice([0.12, 0.35, 0.8, 1.6], p=[0.45, 0.31, 0.16, 0.08])) / paint.mpp
    stamps = [_cytoplasm(item, style, rng=rng, paint=paint, blur_px=blur_px)]
    if style.nucleus_um[1] == 0:
        return stamps
    radius_px = rng.uniform(*style.nucleus_um) / paint.mpp
    dx, dy = np.clip(rng.normal(0, 0.11, 2), -0.35, 0.35) * item.radius_px
    x, y = item.x + float(dx), item.y + float(dy)
    stamps.append(_nucleus((x, y), radius_px, style, rng=rng, paint=paint, blur_px=blur_px))
    if rng.random() < (0.2 if item.kind == "dyskaryotic" else 0.03):
        angle, apart = rng.uniform(0, 2 * np.pi), radius_px * rng.uniform(1.5, 2.4)
        second = x + apart * np.cos(angle), y + apart * np.sin(angle)
        stamps.append(_nucleus(second, radius_px * 0.95, style, rng=rng, paint=paint, blur_px=blur_px))
    return [stamp for stamp in stamps if _is_within_reach(stamp, item)]


def _is_within_reach(stamp: Stamp, item: Item) -> bool:
    """Return whether every region that the stamp touches includes the item; otherwise it would be cut at bands."""
    height, width = stamp.layers[0][0].shape
    left, top = int(np.floor(item.x)) - item.reach_px, int(np.floor(item.y)) - item.reach_px
    longest = 2 * item.reach_px + 1
    across, down = stamp.x - left, stamp.y - top
    return min(across, down) >= 0 and across + width <= longest and down + height <= longest


def _cytoplasm(item: Item, style: CellStyle, *, rng: np.random.Generator, paint: Paint, blur_px: float) -> Stamp:
    """Draw a sheet of cytoplasm: outline, folds, texture, colour."""
    mpp, textures = paint.mpp, paint.textures
    is_crumpled = rng.random() < 0.12 and style.folds > 0.2
    outline = polygon(
        rng,
        item.radius_px * (0.75 if is_crumpled else 1),
        sharpness=rng.uniform(*style.sharpness),
        aspect=rng.uniform(2.0, 3.5) if is_crumpled else 1 + rng.gamma(1.6, 0.15),
        longest_px=item.radius_px * (REACH - 0.15),
    )
    # The square is as small as possible, with a margin for blur and ragged edges.
    room = int(np.ceil(outline.max() + 2.5 * blur_px + 3.0 / mpp))
    grid = make_grid(item.x, item.y, min(room, item.reach_px))
    cloud, mottle = (window(texture, grid.side_px, rng) for texture in (textures.cloud, textures.mottle))
    ragged = (0.45 * cloud + 0.16 * mottle) * np.float32(rng.uniform(0.4, 1.5) / mpp)
    distance = beyond(outline, grid.dx, grid.dy) + ragged
    sheet = cover(distance)
    folds = int(style.folds > rng.random() or is_crumpled) * int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))
    for _ in range(folds):
        sheet = _folded(sheet, grid, outline, ragged, rng=rng, item=item, mpp=mpp)
    uneven = 1 + rng.uniform(0.08, 0.22) * cloud + rng.uniform(0.03, 0.12) * mottle
    thickness = sheet * _relief(uneven, distance, grid, item=item, rng=rng, paint=paint)
    thickness *= np.float32(rng.uniform(*style.density) * (1.3 if is_crumpled else 1))
    if not folds:
        # Light refracted at the edge brightens the glass beside it.
        thickness -= bump(distance - 0.9 / mpp, 0.6 / mpp) * np.float32(0.06)
    layers = _coloured(_blurred(thickness, blur_px), grid, rng=rng, stain=paint.stain, share=style.eosinophilic)
    return Stamp(grid.x, grid.y, layers, sheet >= 0.5, CYTOPLASM)


def _relief(
    uneven: FloatMap, distance: FloatMap, grid: Grid, *, item: Item, rng: np.random.Generator, paint: Paint
) -> FloatMap:
    """Add microscopic detail to the thickness: thin margin, dark edge, dense centre, creases, granules."""
    mpp, textures, side = paint.mpp, paint.textures, grid.side_px
    relief = uneven * (1 - rng.uniform(0.1, 0.5) * np.exp(np.minimum(distance, 0) * np.float32(mpp / 5.0)))
    patchy = np.clip(1 + window(textures.cloud, side, rng), 0, 2)
    relief += bump(distance + 0.6 / mpp, 0.7 / mpp) * patchy * np.float32(rng.uniform(0.05, 0.4))
    from_middle = (grid.dx**2 + grid.dy**2) * np.float32(1 / (0.45 * item.radius_px) ** 2)
    relief += np.exp(-from_middle) * np.float32(rng.uniform(-0.05, 0.35))
    relief += window(textures.crease, side, rng) * np.float32(rng.gamma(1.4, 0.36))
    if rng.random() < 0.18:
        relief += window(textures.granule, side, rng) * patchy * np.float32(rng.uniform(0.2, 0.8))
    if item.kind == "intermediate" and rng.random() < 0.07:
        # The perinuclear halo of a koilocyte.
        relief *= 1 - 0.8 * cover(np.sqrt(from_middle) - 1.0, 0.35)
    shown: FloatMap = np.maximum(relief, 0)
    return shown


def _folded(
    sheet: FloatMap,
    grid: Grid,
    outline: FloatMap,
    ragged: FloatMap,
    *,
    rng: np.random.Generator,
    item: Item,
    mpp: float,
) -> FloatMap:
    """Fold one margin over: cut along a line and add the mirror image to the rest."""
    angle, at = rng.uniform(0, 2 * np.pi), rng.triangular(0.4, 0.85, 0.95) * item.radius_px
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = grid.dy * c - grid.dx * s
    bend = np.float32(rng.normal(0, 0.25) / item.radius_px)
    over = grid.dx * c + grid.dy * s - np.float32(at) + bend * along * along + ragged
    turned = beyond(outline, grid.dx - 2 * over * c, grid.dy - 2 * over * s) + ragged
    kept = cover(over)
    line = bump(over, 0.7 / mpp) * np.float32(rng.uniform(0.2, 1.0))
    flap: FloatMap = kept * (sheet + cover(turned) * (np.float32(0.9) + line))
    return flap


def _blurred(thickness: FloatMap, blur_px: float) -> FloatMap:
    """Blur an out-of-focus object; less than a third of a pixel is invisible."""
    if blur_px < 0.33:
        return thickness
    soft: FloatMap = ndimage.gaussian_filter(thickness, blur_px, truncate=2.5)
    return soft


def _coloured(
    thickness: FloatMap, grid: Grid, *, rng: np.random.Generator, stain: Stain, share: float | None
) -> tuple[tuple[FloatMap, Colour], ...]:
    """Colour the cytoplasm in one tone of a family, or occasionally with a gradient between both families."""
    tones = [_tone(family, rng) for family in (stain.cyanophilic, stain.eosinophilic)]
    is_pink = rng.random() < (stain.eosinophilic_share if share is None else share)
    first, second = (tones[1], tones[0]) if is_pink else (tones[0], tones[1])
    if rng.random() > 0.13:
        return ((thickness, first),)
    angle = rng.uniform(0, 2 * np.pi)
    scale = 1 / (0.2 * grid.side_px)
    side = grid.dx * np.float32(scale * np.cos(angle)) + grid.dy * np.float32(scale * np.sin(angle))
    mixed = np.reciprocal(1 + np.exp(rng.uniform(0, 1.2) - side)).astype(np.float32)
    return ((thickness * (1 - mixed), first), (thickness * mixed, second))


def _tone(family: tuple[Colour, Colour], rng: np.random.Generator) -> Colour:
    """Mix the two tones of a family and vary the mixture a little."""
    share = rng.beta(0.7, 0.7)
    mixture: NDArray[np.float64] = (1 - share) * np.array(family[0]) + share * np.array(family[1])
    red, green, blue = mixture * np.exp(rng.normal(0, 0.09, 3))
    return float(red), float(green), float(blue)


def _nucleus(
    centre: tuple[float, float],
    radius_px: float,
    style: CellStyle,
    *,
    rng: np.random.Generator,
    paint: Paint,
    blur_px: float,
) -> Stamp:
    """Draw a nucleus: dark border, clumped chromatin, sometimes a nucleolus, sometimes faded."""
    mpp = paint.mpp
    outline = ellipse(rng, radius_px, aspect=1 + rng.gamma(1.3, 0.16), uneven=0.02 + 0.1 * style.chromatin)
    reach = int(np.ceil(outline.max() + 3 * blur_px)) + 2
    grid = make_grid(*centre, reach)
    distance = beyond(outline, grid.dx, grid.dy)
    body = cover(distance, 1.5)
    density = rng.uniform(*style.nucleus_density)
    if rng.random() < 0.12 and style.chromatin > 0.1:
        density *= 0.55
    clumps = window(paint.textures.chromatin, grid.side_px, rng)
    thickness = body * (1 + np.float32(style.chromatin * rng.uniform(0.6, 1.3)) * clumps)
    thickness += body * bump(distance + 0.45 / mpp, 0.5 / mpp) * np.float32(rng.uniform(0.15, 0.5))
    if style.chromatin > 0.3 and rng.random() < 0.4:
        place = rng.normal(0, 0.3 * radius_px, 2)
        spot = np.hypot(grid.dx - place[0], grid.dy - place[1]) - 0.7 / mpp
        thickness += body * cover(spot.astype(np.float32), 1.5) * np.float32(0.5)
    thickness = _blurred(np.maximum(thickness, 0) * np.float32(density), blur_px)
    tone = _tone((paint.stain.nucleus, paint.stain.nucleus), rng)
    return Stamp(grid.x, grid.y, ((thickness, tone),), distance < 0, NUCLEUS)
