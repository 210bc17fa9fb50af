"""Layout of a synthetic slide: items per block from (seed, block)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cytoseg.geometry import Region
from cytoseg.synthetic.textures import Field, make_field

BLOCK_UM = 64.0
"""Side of a block; no item extends further than this from its centre."""

RADIUS_UM = {
    "superficial": (22.0, 31.0),
    "intermediate": (21.0, 30.0),
    "squame": (20.0, 29.0),
    "parabasal": (8.0, 13.0),
    "dyskaryotic": (10.0, 19.0),
    "neutrophil": (4.5, 6.0),
    "red cell": (3.2, 3.9),
    "debris": (0.8, 4.5),
}
"""Minimum and maximum mean radius of each kind; a cell's corners may extend 1.9 times as far."""

CELL_SHARES = {"intermediate": 0.49, "superficial": 0.32, "parabasal": 0.10, "dyskaryotic": 0.05, "squame": 0.04}
"""Usual share of each kind among the cells."""
CELL_KINDS = tuple(CELL_SHARES)
"""Kinds of cells; a kind map has their places from 1, and 0 where there is no cell."""
REACH = 1.9


@dataclass(frozen=True)
class Item:
    """One item to draw.

    Attributes:
        kind: A key of ``RADIUS_UM``.
        x: Centre in level-0 pixels.
        y: Centre in level-0 pixels.
        radius_px: Its mean radius.
        reach_px: Largest extent from the pixel under its centre, along x or y.
        seed: Seed of its appearance.
    """

    kind: str
    x: float
    y: float
    radius_px: float
    reach_px: int
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Density fields of the items.

    Attributes:
        seed: Seed of the slide.
        mpp: Micrometres per pixel.
        crowding: Field of the cells: clusters where high, glass where low.
        inflammation: Field of the neutrophils.
        leucocytes: Mean neutrophils per block.
        shares: Share of each of ``CELL_KINDS`` among the cells.
    """

    seed: int
    mpp: float
    crowding: Field
    inflammation: Field
    leucocytes: float
    shares: tuple[float, ...] = tuple(CELL_SHARES.values())

    @property
    def block_px(self) -> int:
        """Side of a block in level-0 pixels."""
        return max(1, round(BLOCK_UM / self.mpp))


def make_plan(seed: int, *, mpp: float, leucocytes: float) -> Plan:
    """Build the fields of one slide; arguments as in ``Plan``."""
    rng = np.random.default_rng([seed, 2])
    crowding = make_field(rng, shortest_px=180 / mpp, longest_px=1400 / mpp)
    inflammation = make_field(rng, shortest_px=100 / mpp, longest_px=900 / mpp)
    return Plan(seed, mpp, crowding, inflammation, leucocytes)


def shares_with(dyskaryotic: float) -> tuple[float, ...]:
    """Return the shares of ``CELL_KINDS`` with another one of dyskaryotic cells; the others keep their proportions.

    Args:
        dyskaryotic: Share of dyskaryotic cells, 0 to 1.
    """
    others = 1 - CELL_SHARES["dyskaryotic"]
    rest = {kind: (1 - dyskaryotic) * share / others for kind, share in CELL_SHARES.items()}
    return tuple((rest | {"dyskaryotic": dyskaryotic}).values())


def items_in(plan: Plan, region: Region) -> Iterator[Item]:
    """Yield all items that may touch a region, in block order from the top left.

    Args:
        plan: Of the slide.
        region: In level-0 pixels.

    Yields:
        Items; those touching a pixel come in the same order for every region.
    """
    block = plan.block_px
    for row in range(region.y // block - 1, (region.y + region.height - 1) // block + 2):
        for column in range(region.x // block - 1, (region.x + region.width - 1) // block + 2):
            for item in _items_of_block(plan, row, column):
                beside = (
                    item.x + item.reach_px + 1 < region.x
                    or item.y + item.reach_px + 1 < region.y
                    or item.x - item.reach_px > region.x + region.width
                    or item.y - item.reach_px > region.y + region.height
                )
                if not beside:
                    yield item


def _items_of_block(plan: Plan, row: int, column: int) -> Iterator[Item]:
    """Draw the items whose centres lie in one block."""
    # Rows and columns may be -1 at the slide's edge, seeds may not.
    rng = np.random.default_rng([plan.seed, 3, row + 1, column + 1])
    block = plan.block_px
    centre = np.array((column + 0.5) * block), np.array((row + 0.5) * block)
    crowd, inflamed = float(plan.crowding.at(*centre)), float(plan.inflammation.at(*centre))
    cells = 0.0 if crowd < -0.75 else 1.0 * np.exp(0.75 * min(crowd, 1.6))
    counts = {
        "cell": rng.poisson(cells),
        "neutrophil": rng.poisson(plan.leucocytes * np.exp(1.3 * min(inflamed, 2.2) - 0.6)),
        "debris": rng.poisson(0.45),
        "red cell": rng.poisson(2.5) if inflamed > 1.5 else 0,
    }
    number = 0
    for group, count in counts.items():
        for _ in range(count):
            kind = str(rng.choice(CELL_KINDS, p=plan.shares)) if group == "cell" else group
            radius = rng.uniform(*RADIUS_UM[kind]) / plan.mpp
            x, y = column * block + rng.uniform(0, block), row * block + rng.uniform(0, block)
            reach = min(block, int(np.ceil(radius * REACH + 3.0 / plan.mpp)) + 2)
            yield Item(kind, float(x), float(y), float(radius), reach, (plan.seed, 4, row + 1, column + 1, number))
            number += 1
