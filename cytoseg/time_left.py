"""Estimates of the remaining and the whole time of long work."""

from collections.abc import Sequence

_TOLD_FROM = 0.1
"""Fraction of the work after which the remaining time is shown."""
_MEASURED_S = 3.0
"""Seconds for which the pace is measured before an estimate. The first unit is a warm-up and does not count."""
_LONG_S, _FEW = 10.0, 100
"""If the first of a few units takes this long, the estimate is made from it instead of waiting for a second."""


def seconds_left(done: float, total: float, elapsed_s: float) -> float | None:
    """Estimate the remaining time from the mean pace so far.

    Args:
        done: Units done since the start of this call.
        total: Units there were to do at the start.
        elapsed_s: Seconds since the start.

    Returns:
        Seconds; None before a tenth is done.
    """
    if total <= 0 or done < _TOLD_FROM * total or done <= 0:
        return None
    return elapsed_s * max(0.0, total - done) / done


def whole_time(seen: Sequence[tuple[float, float]], total: float) -> float | None:
    """Estimate the total time from the first units.

    Args:
        seen: Units done and seconds elapsed, at the first unit and now.
        total: Units to do.

    Returns:
        Seconds; None before an estimate is possible.
    """
    (first, first_s), (now, now_s) = seen[0], seen[-1]
    if now > first and now_s - first_s >= _MEASURED_S:
        return first_s + (total - first) * (now_s - first_s) / (now - first)
    if first > 0 and first_s >= _LONG_S and total <= _FEW * first:
        return first_s * total / first
    return None
