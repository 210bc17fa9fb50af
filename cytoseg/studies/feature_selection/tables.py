"""Results of a feature selection as CSV, Markdown and one sentence."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from cytoseg.csv_table import Numeral
from cytoseg.diffusion.add_noise import snr_db
from cytoseg.studies.class_sizes import SMALL_PX
from cytoseg.studies.feature_selection.cross_validation import Measured, gain
from cytoseg.studies.feature_selection.pixels import FeatureSet
from cytoseg.studies.feature_selection.select import NOISES, Selection, Trial

_NAMED = 8
_COLUMNS = ("stage", "taken", "taps", "timesteps", "snr_db", "scale", "extractors", "noises", "flips", "features")


def sentence(selection: Selection) -> str:
    """Return the sentence on the choice and its gain over the recipe's features."""
    present, best, chosen = selection.present, selection.best, selection.chosen
    if chosen.features == present.features:
        more, spread = gain(best, present)
        other = (
            f"best was {best.features.text()}, {more:+.3f}, within the spread between folds and seeds of {spread:.3f}"
        )
        return (
            f"The recipe's features stay: {present.features.text()}, mean IoU {present.score:.3f} on "
            f"held-out slides; {'nothing measured was better' if best.features == present.features else other}."
        )
    more, spread = gain(chosen, present)
    verdict = "more than" if more > spread else "within"
    return (
        f"Chosen: {chosen.features.text()}. Mean IoU {chosen.score:.3f} on held-out slides, {more:+.3f} against "
        f"{present.score:.3f} of the recipe's {present.features.text()}: {verdict} the spread between folds and seeds "
        f"of {spread:.3f}, with {chosen.width:,} features per pixel instead of {present.width:,}."
    )


def small_classes(selection: Selection, *, small: bool) -> list[int]:
    """Return the ids of the small classes, or of the large ones."""
    return [k for k, d in enumerate(selection.diameters) if d is not None and (d < SMALL_PX) == small]


def table_of(selection: Selection, names: Sequence[str], alpha_bars: torch.Tensor) -> Iterator[list[Any]]:
    """Yield the header and one row per measured set; undefined values are empty.

    Args:
        selection: From ``select_features``.
        names: The K class names.
        alpha_bars: (T,) from the network's schedule.

    Yields:
        The rows of a CSV table.
    """
    measured = ("mean IoU", "gain", "spread", "seconds per crop")
    yield [*_COLUMNS, *(f"IoU {name}" for name in names), *measured, "left out"]
    for trial in selection.trials:
        found = trial.measured
        last = [found.score, trial.gain, trial.spread, found.seconds]
        yield [*_first(trial.stage, trial.taken, found, alpha_bars), *map(_number, [*found.iou, *last]), ""]
    for features, reason in selection.left_out:
        empty = [""] * (1 + len(names) + len(measured))
        yield ["", "", *_cells(features, alpha_bars), *empty, reason]


def _first(stage: str, taken: bool, measured: Measured, alpha_bars: torch.Tensor) -> list[Any]:
    return [stage, taken, *_cells(measured.features, alpha_bars), measured.width]


def _cells(f: FeatureSet, alpha_bars: torch.Tensor) -> list[Any]:
    """Return the cells that describe a set."""
    of_taps = [" ".join(f.taps), _joined(f.timesteps), _snr(f.timesteps, alpha_bars), f.scale]
    return [*(of_taps if f.has_taps else [""] * 4), " ".join(f.extractors), f.noises, f.flips]


def _joined(timesteps: Sequence[int]) -> str:
    return " ".join(map(str, timesteps))


def _snr(timesteps: Sequence[int], alpha_bars: torch.Tensor) -> str:
    return " ".join(f"{float(ratio):.1f}" for ratio in snr_db(alpha_bars[list(timesteps)]))


def _number(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else Numeral(f"{value:.6f}")


def as_markdown(selection: Selection, names: Sequence[str], alpha_bars: torch.Tensor) -> str:
    """Format the sentence, the compared sets, and the best single taps in Markdown.

    Args:
        selection: From ``select_features``.
        names: The K class names.
        alpha_bars: (T,) from the network's schedule.
    """
    head = ["", "features", "t", "SNR, dB", *(f"IoU {name}" for name in names), "mean IoU", "gain", "spread"]
    head += ["per pixel", "s per crop"]
    rows = [_row(trial, alpha_bars) for trial in selection.trials if trial.stage != "single"]
    lines = [
        sentence(selection),
        "",
        *_table(head, rows),
        "",
        *_table(["one tap alone", "tap", "t", "IoU"], _best_single(selection, names)),
        "",
        *(f"- {note}" for note in _notes(selection, names)),
    ]
    return "\n".join([*lines, ""])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "&#124;") for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], "|---" * len(head) + "|", *lines[1:]]


def _row(trial: Trial, alpha_bars: torch.Tensor) -> list[str]:
    found = trial.measured
    before_t, _, after = found.features.text().partition(" at t = ")
    after = after.removeprefix(", ".join(map(str, found.features.timesteps)))
    scores = [_share(value) for value in [*found.iou, found.score]]
    compared = ["", ""] if trial.gain is None else [f"{trial.gain:+.3f}", f"{trial.spread:.3f}"]
    timesteps = found.features.timesteps if found.features.has_taps else ()
    first = [trial.stage + " (taken)" * trial.taken, before_t + after, _joined(timesteps)]
    return [
        *first,
        _snr(timesteps, alpha_bars),
        *scores,
        *compared,
        f"{found.width:,}",
        f"{found.seconds:.2f}",
    ]


def _share(value: float) -> str:
    return "n/a" if np.isnan(value) else f"{value:.3f}"


def _best_single(selection: Selection, names: Sequence[str]) -> list[list[str]]:
    single = [trial.measured for trial in selection.trials if trial.stage == "single"]
    rows = []
    for k, name in enumerate(names):
        applies = [measured for measured in single if not np.isnan(measured.iou[k])]
        if applies:
            best = max(applies, key=lambda measured: measured.iou[k])
            rows.append([name, best.features.taps[0], str(best.features.timesteps[0]), f"{best.iou[k]:.3f}"])
    return rows


def _notes(selection: Selection, names: Sequence[str]) -> list[str]:
    train_px, held_out_px = selection.pixels
    sizes = ", ".join(f"{n} {d:.0f} px" for n, d in zip(names, selection.diameters, strict=True) if d is not None)
    notes = [
        f"Measured on {selection.crops} train crops by cross-validation over their slides, with {train_px:,} pixels "
        f"per crop to train on and {held_out_px:,} to score; few interpreters, trained briefly: compare these IoU with "
        "each other, not with those of evaluate.",
        "A set replaces the one before if its mean IoU gains more than the spread: the standard deviation of the gains "
        "of single folds and seeds. start is compared with the recipe's present set, others with the set chosen "
        "before. Finally (settled) the grown set, or else the best of all, replaces the recipe's if it gains more than "
        "the spread. The grown set also replaces it if it is as good with fewer features.",
        f"Half of each class's pixels lie in objects at least this wide: {sizes}. Small means below {SMALL_PX} px.",
        f"noises (mean of {NOISES}) and flips are only measured: no recipe key sets them.",
    ]
    if selection.left_out:
        named = [f"{features.text()} ({reason})" for features, reason in selection.left_out[:_NAMED]]
        more = len(selection.left_out) - len(named)
        named += [f"and {more} more, which the CSV names"] * (more > 0)
        notes.append(
            f"Left out, with what they need: {'; '.join(named)}. Run it again with more: measured sets are kept, as "
            "long as the numbers of crops and of pixels per crop stay the same."
        )
    return notes
