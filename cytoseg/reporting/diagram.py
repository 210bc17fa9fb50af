"""SVG diagrams of the report: calibration and risk-coverage."""

from collections.abc import Sequence

from cytoseg.metrics.results import MEASURES, ConfidenceBin, UncertaintyScores
from cytoseg.metrics.risk import COVERAGES

_SIDE, _LEFT, _BELOW, _GAP = 260, 56, 48, 20
_LARGEST_PX = 9
_COLOURS = ("#0072b2", "#e69f00")
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def calibration_diagram(bins: Sequence[ConfidenceBin]) -> str:
    """Draw accuracy against stated probability; larger points represent more pixels.

    Args:
        bins: From low to high; empty ones are skipped.

    Returns:
        An SVG element; empty text without pixels.
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
    dashed = f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#8a8f98" stroke-dasharray="5 4"/>'
    drawn = (
        f'{dashed}<polyline points="{line}" fill="none" stroke="{_COLOURS[0]}" stroke-width="2"/>'
        f'<g fill="{_COLOURS[0]}">{"".join(circles)}</g>'
    )
    label = "Calibration: fraction correct against stated probability"
    return _frame(drawn, label=label, across="Stated probability", upward="Fraction correct", top=1.0)


def risk_diagram(measures: Sequence[UncertaintyScores]) -> str:
    """Draw the error rate against coverage, the most certain pixels first.

    Args:
        measures: One line per measure; those without pixels are skipped.

    Returns:
        An SVG element; empty text without lines.
    """
    lines = {
        scores.measure: risks for scores in measures if len(risks := defined_points(scores.curve)) == len(COVERAGES)
    }
    if not lines:
        return ""
    top = scale_top(max(max(risks) for risks in lines.values()))
    drawn = []
    for place, (measure, risks) in enumerate(lines.items()):
        colour, y = _COLOURS[place % len(_COLOURS)], _GAP + 18 + 17 * place
        points = " ".join(f"{_x(c):.1f},{_y(risk / top):.1f}" for c, risk in zip(COVERAGES, risks, strict=True))
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn.append(
            f'<line x1="{_x(0.04)}" x2="{_x(0.12)}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="2"/>'
        )
        drawn.append(f'<text x="{_x(0.15)}" y="{y}">{MEASURES[measure]}</text>')
    label = "Risk and coverage: fraction wrong among the pixels kept"
    across, upward = "Pixels kept (most certain first)", "Fraction wrong"
    return _frame("".join(drawn), label=label, across=across, upward=upward, top=top)


def defined_points(curve: Sequence[float | None]) -> list[float]:
    """Drop missing values of a curve."""
    return [risk for risk in curve if risk is not None]


def scale_top(most: float) -> float:
    """Choose the upper end of an axis: 1 %, 2 %, 4 %, 10 %, 20 %, 40 % or 100 %."""
    return next(top for top in (0.01, 0.02, 0.04, 0.1, 0.2, 0.4, 1.0) if most <= top)


def _frame(drawn: str, *, label: str, across: str, upward: str, top: float) -> str:
    """Add a frame, axis titles and ticks to a drawing; ``top`` is the upper end of the vertical axis."""
    width, height = _LEFT + _SIDE + _GAP, _GAP + _SIDE + _BELOW
    ticks = "".join(_tick(share, top) for share in TICKS)
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{label}" font-size="12" fill="#5a6675">'
        f'<rect x="{_LEFT}" y="{_GAP}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#dfe4ea"/>'
        f"{ticks}{drawn}"
        f'<text x="{_x(0.5)}" y="{height - 6}" text-anchor="middle">{across}</text>'
        f'<text transform="translate(13 {_y(0.5)}) rotate(-90)" text-anchor="middle">{upward}</text>'
        "</svg>"
    )


def _x(share: float) -> float:
    return _LEFT + _SIDE * share


def _y(share: float) -> float:
    return _GAP + _SIDE * (1 - share)


def _tick(share: float, top: float) -> str:
    upward = f"{100 * share * top:.3g}%"
    return (
        f'<text x="{_x(share)}" y="{_y(0) + 17}" text-anchor="middle">{share:.0%}</text>'
        f'<text x="{_LEFT - 7}" y="{_y(share) + 4}" text-anchor="end">{upward}</text>'
    )
