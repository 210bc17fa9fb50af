"""Results of a study of robustness: sentences on safe strengths, and the table in Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cytoseg.metrics.results import Score

SAFE = 0.9
"""A corruption is safe if every class keeps at least this share of its IoU, at the lower end of the interval if any."""


@dataclass(frozen=True)
class Kept:
    """Scores of one method on test crops corrupted in one way; tuples follow the class list.

    Attributes:
        corruption: Key of the corruption.
        severity: 1 to 5.
        strength: As text, such as ``defocus of 1.50 µm``.
        iou: Pooled IoU on the corrupted crops.
        kept: That IoU divided by the one on the clean crops.
    """

    corruption: str
    severity: int
    strength: str
    iou: tuple[Score, ...]
    kept: tuple[Score, ...]

    @property
    def safe(self) -> bool:
        """Whether every class keeps enough of its IoU."""
        return all(end is None or end >= SAFE for end in map(_lower_end, self.kept))


@dataclass(frozen=True)
class Robust:
    """Results of one method; ``clean`` is its IoU per class on the clean crops, ``cells`` those on corrupted ones."""

    key: str
    title: str
    clean: tuple[Score, ...]
    cells: tuple[Kept, ...]


def safe_sentences(method: Robust, names: Sequence[str]) -> list[str]:
    """Describe up to which strength of each corruption a method may be used.

    A strength counts as safe if it and every milder one tested are.

    Args:
        method: The method.
        names: The K class names.

    Returns:
        Sentences, and last the rule behind them; none without corruptions.
    """
    always, up_to, never = [], [], []
    for cells in _by_corruption(method):
        safe = next((n for n, cell in enumerate(cells) if not cell.safe), len(cells))
        if safe == len(cells):
            always.append(cells[-1].strength)
        elif safe == 0:
            never.append(f"{cells[0].strength} ({_worst(cells[0], names)})")
        else:
            up_to.append(f"{cells[safe - 1].strength} (not {cells[safe].strength}: {_worst(cells[safe], names)})")
    groups = (
        ("Safe at every strength tested, up to", always),
        ("Safe up to", up_to),
        ("Not safe even at", never),
    )
    said = [f"{head} {', '.join(texts)}." for head, texts in groups if texts]
    rule = (
        f"Safe means that every class keeps at least {100 * SAFE:.0f} % of its IoU on clean crops, at the lower end of "
        "the 95 % interval over slides if there is one, there and at every milder strength tested."
    )
    return [f"{method.title}:", *said, rule] if said else []


def as_markdown(found: Sequence[Robust], names: Sequence[str], *, of_class: str, told: Sequence[str]) -> str:
    """Format the sentences and the table of one class in Markdown.

    Args:
        found: The methods.
        names: The K class names.
        of_class: The class of the table; the CSV and JSON files have all.
        told: Sentences above the table.

    Returns:
        Markdown: the clean IoU, the mean share kept at each severity, then the share kept by corruption.
    """
    k = list(names).index(of_class)
    titles = " | ".join(method.title.replace("|", "&#124;") for method in found)
    lines = [f"| {of_class.replace('|', '&#124;')} | {titles} |", "|---" * (1 + len(found)) + "|"]
    lines.append(_line("IoU on clean crops", [method.clean[k] for method in found]))
    for severity in sorted({cell.severity for cell in found[0].cells}):
        means = [Score(_mean_kept(method, severity, k)) for method in found]
        lines.append(_line(f"**kept at severity {severity}, mean**", means))
    for cells in zip(*(method.cells for method in found), strict=True):
        lines.append(_line(f"{cells[0].strength} ({cells[0].severity})", [cell.kept[k] for cell in cells]))
    note = (
        "Share of the clean IoU that is kept (95 % interval over slides); severities in parentheses. All methods were "
        "trained on clean crops and scored on the same corrupted ones."
    )
    return "\n\n".join([*told, "\n".join(lines), f"{note}\n"])


def _line(head: str, scores: Sequence[Score]) -> str:
    return f"| {head} | {' | '.join(score.text() for score in scores)} |"


def _mean_kept(method: Robust, severity: int, k: int) -> float | None:
    kept = [cell.kept[k].value for cell in method.cells if cell.severity == severity]
    known = [value for value in kept if value is not None]
    return sum(known) / len(known) if known else None


def _by_corruption(method: Robust) -> Iterator[list[Kept]]:
    for corruption in dict.fromkeys(cell.corruption for cell in method.cells):
        yield sorted((c for c in method.cells if c.corruption == corruption), key=lambda cell: cell.severity)


def _worst(cell: Kept, names: Sequence[str]) -> str:
    """Name the class with the lowest end, which decides whether it is safe, such as ``nucleus keeps 0.62``."""
    known = [(score, name) for score, name in zip(cell.kept, names, strict=True) if score.value is not None]
    score, name = min(known, key=lambda pair: _lower_end(pair[0]) or 0.0)
    return f"{name} keeps {score.value:.2f}"


def _lower_end(kept: Score) -> float | None:
    """Return the lower end of the interval; the value itself if there is no interval."""
    return kept.value if kept.low is None else kept.low
