"""Splitting of touching nuclei on synthetic discs and wavy ellipses.

python -m tests.benchmarks.splitting > tests/benchmarks/results/splitting.md
"""

import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max

from cytoseg.objects import watershed
from cytoseg.objects.padded_mask import padded
from cytoseg.objects.watershed import split_touching

SIDE_PX = 110
RADII = (4.5, 6.0, 9.0, 14.0, 20.0)
APART = (1.4, 1.6, 1.8)
WAVES = (0.1, 0.2)

Mask = NDArray[np.bool_]
Count = Callable[[Mask], int]


def pairs(apart: float, rng: np.random.Generator) -> Iterator[Mask]:
    """Yield connected masks of two slightly wavy ellipses whose centres are ``apart`` mean radii apart."""
    for radius in RADII:
        for _ in range(12):
            small, turn = rng.uniform(0.75, 1), rng.uniform(0, math.pi)
            far = apart * radius * (1 + small) / 4
            both = _ellipse(radius, rng.uniform(0.8, 1), rng, (far * math.cos(turn), far * math.sin(turn)))
            both |= _ellipse(radius * small, rng.uniform(0.8, 1), rng, (-far * math.cos(turn), -far * math.sin(turn)))
            mask = _wavy(both, 0.05 * radius, rng)
            if ndimage.label(mask, watershed.CORNERS)[1] == 1:
                yield mask


def singles(wave: float, rng: np.random.Generator) -> Iterator[Mask]:
    """Yield ellipses up to twice as long as wide, whose outline varies by ``wave`` times the smaller radius."""
    for radius in RADII:
        for longer in (1.0, 1.5, 2.0):
            for _ in range(8):
                mask = _wavy(_ellipse(radius * longer, 1 / longer, rng, (0, 0)), wave * radius, rng)
                areas, _ = ndimage.label(mask, watershed.CORNERS)
                yield areas == np.bincount(areas.ravel())[1:].argmax() + 1


def _ellipse(long: float, ratio: float, rng: np.random.Generator, shift: tuple[float, float]) -> Mask:
    turn = rng.uniform(0, math.pi)
    row, column = np.indices((SIDE_PX, SIDE_PX)) - SIDE_PX / 2 + rng.uniform(0, 1)
    x, y = column - shift[0], row - shift[1]
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    return np.asarray((along / long) ** 2 + (across / (long * ratio)) ** 2 <= 1, np.bool_)


def _wavy(mask: Mask, stray_px: float, rng: np.random.Generator) -> Mask:
    noise = ndimage.gaussian_filter(rng.normal(size=mask.shape), 1.5)
    depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    return np.asarray(depth + stray_px * noise / noise.std() > 0, np.bool_)


def by_depth(depth_px: float, smoothing_px: float) -> Count:
    """Count the parts of cytoseg's watershed with other settings."""

    def count(mask: Mask) -> int:
        with mock.patch.multiple(watershed, DEPTH_PX=depth_px, SMOOTHING_PX=smoothing_px):
            return int(split_touching(mask, least_px=4).max())

    return count


def by_distance(least_px: int, smoothing_px: float) -> Count:
    """Count peaks of the smoothed distance with a minimum distance between them."""

    def count(mask: Mask) -> int:
        inside = padded(mask)
        distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside), smoothing_px)
        peaks: NDArray[Any] = peak_local_max(distance, min_distance=least_px, labels=inside.astype(np.int32))
        return len(peaks)

    return count


def main() -> None:
    """Print the table."""
    methods = {f"h-maxima {h} px, smoothed {s} px": by_depth(h, s) for s in (0.5, 1.0, 1.5) for h in (0.5, 0.75, 1.0)}
    methods |= {f"peaks {d} px apart, smoothed 1 px": by_distance(d, 1.0) for d in (3, 5, 8)}
    rng = np.random.default_rng(0)
    cases = {f"two, {apart} radii apart": (2, list(pairs(apart, rng))) for apart in APART}
    cases |= {f"one, wavy by {wave} radii": (1, list(singles(wave, rng))) for wave in WAVES}
    print(
        "# Splitting touching nuclei\n\n"
        "Share of the generated shapes split into the right number of parts; radius 4.5 to 20 px."
    )
    print("`python -m tests.benchmarks.splitting`; cytoseg uses h-maxima of 0.5 px, smoothed by 1 px.\n")
    print(f"| seeds | {' | '.join(cases)} |\n|{' --- |' * (len(cases) + 1)}")
    for name, count in methods.items():
        shares = [np.mean([count(mask) == wanted for mask in masks]) for wanted, masks in cases.values()]
        print(f"| {name} | {' | '.join(f'{share:.2f}' for share in shares)} |")


if __name__ == "__main__":
    main()
