"""Human-readable durations and the interval of progress lines."""

PROGRESS_VARIABLE = "CYTOSEG_PROGRESS_S"
"""Environment variable: seconds between two progress lines."""


def duration_text(seconds: float | None) -> str:
    """Write a duration for people: ``42 s``, ``12 min 05 s``, ``3 h 20 min``; a dash for None."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
