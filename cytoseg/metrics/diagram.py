"""The calibration diagram of the report, drawn as SVG, which needs no other file and prints at any size."""

from collections.abc import Sequence

from cytoseg.metrics.results import ConfidenceBin

_SIDE, _LEFT, _BELOW, _GAP = 260, 56, 48, 12
_LARGEST_PX = 9
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def calibration_diagram(bins: Sequence[ConfidenceBin]) -> str:
    """Draw the share that is right over the probability that was stated; larger points stand for more pixels.

    Args:
        bins: From low to high; empty ones are left out.

    Returns:
        An SVG element; without any pixel an empty text.
    """
    points = [
        (entry.confidence, entry.right, entry.pixels)
        for entry in bins
        if entry.confidence is not None and entry.right is not None
    ]
    if not points:
        return ""
    most = max(pixels for *_, pixels in points)
    places = [(_x(confidence), _y(right)) for confidence, right, _ in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    circles = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2 + _LARGEST_PX * (pixels / most) ** 0.5:.1f}"/>'
        for (x, y), (*_, pixels) in zip(places, points, strict=True)
    ]
    width, height = _LEFT + _SIDE + _GAP, _GAP + _SIDE + _BELOW
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        'aria-label="Calibration: share that is right over the stated probability" font-size="12" fill="#5a6675">'
        f'<rect x="{_LEFT}" y="{_GAP}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#dfe4ea"/>'
        f"{''.join(map(_tick, TICKS))}"
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#8a8f98" stroke-dasharray="5 4"/>'
        f'<polyline points="{line}" fill="none" stroke="#0072b2" stroke-width="2"/>'
        f'<g fill="#0072b2">{"".join(circles)}</g>'
        f'<text x="{_x(0.5)}" y="{height - 6}" text-anchor="middle">Probability that it states</text>'
        f'<text transform="translate(13 {_y(0.5)}) rotate(-90)" text-anchor="middle">Share that is right</text>'
        "</svg>"
    )


def _x(share: float) -> float:
    return _LEFT + _SIDE * share


def _y(share: float) -> float:
    return _GAP + _SIDE * (1 - share)


def _tick(share: float) -> str:
    return (
        f'<text x="{_x(share)}" y="{_y(0) + 17}" text-anchor="middle">{share:.0%}</text>'
        f'<text x="{_LEFT - 7}" y="{_y(share) + 4}" text-anchor="end">{share:.0%}</text>'
    )
