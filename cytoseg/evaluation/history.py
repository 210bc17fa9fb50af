"""Evaluation history: keeping and comparing earlier evaluations."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cytoseg.errors import CytosegError
from cytoseg.evaluation.results_file import evaluation_of, read_evaluation_file, read_evaluation_record
from cytoseg.evaluation.run_folder import plain_rows
from cytoseg.metrics.results import Evaluation, Score, ensemble_of, share_text
from cytoseg.writing import atomic_path

HISTORY = "history"
_NOT_SETTINGS = {
    "labels",
    "pictures",
    "train_seconds",
    "peak_memory_gb",
    "table_gb",
    "table",
    "pixels",
    "pixels_labelled",
    "pixels_used",
    "made",
    "kept_steps",
    "calibration",
}
"""Parts of a bundle's origin that are data or results of the training, not settings."""
_NOT_OF_A_NAME = re.compile(r"[^\w.+-]", re.ASCII)
"""Left out of the time in the name of a file: the file of an evaluation may hold anything in its place."""
_LONGEST = 100


@dataclass(frozen=True)
class Snapshot:
    """One evaluation with its labels and settings.

    Attributes:
        evaluation: The scores.
        train_labels: Hash of each training crop's label map, by crop.
        test_labels: The same for each test crop.
        settings: Settings of the bundle, names and values as text.
    """

    evaluation: Evaluation
    train_labels: Mapping[str, str]
    test_labels: Mapping[str, str]
    settings: Mapping[str, str]


@dataclass(frozen=True)
class LabelChange:
    """Difference of two sets of labelled crops: ids of crops in only one of them, and of changed ones."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        """Return whether there is any difference."""
        return bool(self.added or self.removed or self.changed)

    def text(self) -> str:
        """Return the difference as text, such as ``5 added, 1 relabelled``."""
        counts = ((self.added, "added"), (self.removed, "removed"), (self.changed, "relabelled"))
        return ", ".join(f"{len(crops)} {what}" for crops, what in counts if crops) or "the same"


@dataclass(frozen=True)
class ScoreChange:
    """A score before and after; ``difference`` is None if one of them is undefined."""

    name: str
    before: Score
    after: Score

    @property
    def difference(self) -> float | None:
        """After minus before."""
        if self.before.value is None or self.after.value is None:
            return None
        return self.after.value - self.before.value


@dataclass(frozen=True)
class Comparison:
    """Comparison of two evaluations.

    Attributes:
        mean: The mean IoU.
        classes: The IoU of each class in both, in the order of the later class list.
        slides: Mean IoU of each slide tested in both, by slide.
        train_labels: Difference of the training labels.
        test_labels: Difference of the test labels.
        settings: (name, before, after) of changed settings; a dash for a missing value.
    """

    mean: ScoreChange
    classes: tuple[ScoreChange, ...]
    slides: tuple[ScoreChange, ...]
    train_labels: LabelChange
    test_labels: LabelChange
    settings: tuple[tuple[str, str, str], ...]

    def sentences(self) -> list[str]:
        """Describe in sentences the change, whether the test set changed, and possible causes."""
        found = [_rise("Mean IoU", self.mean)]
        known = [change for change in self.slides if change.difference is not None]
        if known:
            better = sum((change.difference or 0) > 0 for change in known)
            worse = sum((change.difference or 0) < 0 for change in known)
            found.append(f"Of {len(known)} slides tested both times, {better} got better and {worse} worse.")
        if self.test_labels:
            found.append(
                f"The test crops are not the same ({self.test_labels.text()}): part of the change is due to the "
                "different test crops."
            )
        found.append(f"Training crops: {self.train_labels.text()}.")
        count = len(self.settings)
        found.append(f"Settings that differ: {count}." if count else "No setting differs.")
        return found


@contextlib.contextmanager
def earlier_kept(run: Path) -> Iterator[None]:
    """During a re-evaluation: archive the previous evaluation in the history, under its time.

    Nothing is archived after an error or interruption, nor is a damaged evaluation.

    Args:
        run: The run folder.

    Raises:
        OSError: If the disk is full.
    """
    path = run / "evaluation" / "evaluation.json"
    content, created = b"", ""
    with contextlib.suppress(OSError, CytosegError):
        content, created = path.read_bytes(), read_evaluation_file(path).created
    yield
    if created:
        kept = run / HISTORY / (_NOT_OF_A_NAME.sub("", created)[:_LONGEST] + ".json")
        kept.parent.mkdir(exist_ok=True)
        with atomic_path(kept) as temporary:
            temporary.write_bytes(content)


def snapshot_files(run: Path) -> list[Path]:
    """List the readable evaluations of a run, latest first; they may be damaged."""
    latest = run / "evaluation" / "evaluation.json"
    earlier = sorted((run / HISTORY).glob("*.json"), reverse=True)
    # Unlike Path.is_file, this treats inaccessible files as missing.
    return [path for path in (latest, *earlier) if os.path.isfile(path)]


def read_snapshot(path: Path) -> Snapshot:
    """Read an evaluation with its labels and settings.

    Args:
        path: One of ``snapshot_files``.

    Raises:
        CytosegError: If the file is damaged, incomplete, of another format or may not be read.
    """
    record = read_evaluation_record(path)
    return Snapshot(
        evaluation_of(record), _hashes(record.bundle.get("labels")), record.test_labels, _settings(record.bundle)
    )


def compare_snapshots(before: Snapshot, after: Snapshot) -> Comparison:
    """Compare the ensembles of two evaluations.

    Args:
        before: The earlier one.
        after: The later one.

    Raises:
        CytosegError: If one of them has no method.
    """
    old, new = ensemble_of(before.evaluation), ensemble_of(after.evaluation)
    if old is None or new is None:
        raise CytosegError("evaluation.json: holds no method. Run `cytoseg evaluate RECIPE`.")
    classes = {scores.name: scores.iou for scores in old.classes}
    slides = {scores.slide: scores.miou for scores in old.slides}
    return Comparison(
        mean=ScoreChange("Mean IoU", old.miou, new.miou),
        classes=tuple(ScoreChange(s.name, classes[s.name], s.iou) for s in new.classes if s.name in classes),
        slides=tuple(
            ScoreChange(s.slide, Score(slides[s.slide]), Score(s.miou)) for s in new.slides if s.slide in slides
        ),
        train_labels=_label_change(before.train_labels, after.train_labels),
        test_labels=_label_change(before.test_labels, after.test_labels),
        settings=_differing(before.settings, after.settings),
    )


def _rise(name: str, change: ScoreChange) -> str:
    difference = change.difference
    if difference is None:
        return f"{name} cannot be compared."
    texts = share_text(change.before.value), share_text(change.after.value)
    if texts[0] == texts[1]:
        return f"{name} stayed at {texts[0]}."
    return f"{name} {'rose' if difference > 0 else 'fell'} from {texts[0]} to {texts[1]}."


def _settings(bundle: Mapping[str, object]) -> dict[str, str]:
    said = {key: value for key, value in bundle.items() if key not in _NOT_SETTINGS}
    features = said.get("features")
    # Taps and timesteps are also among all settings.
    if isinstance(features, list) and features and isinstance(features[-1], dict):
        said["features"] = features[-1]
    return dict(plain_rows(said))


def _hashes(found: object) -> dict[str, str]:
    return {str(crop): str(sha256) for crop, sha256 in found.items()} if isinstance(found, dict) else {}


def _label_change(before: Mapping[str, str], after: Mapping[str, str]) -> LabelChange:
    return LabelChange(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(crop for crop in before.keys() & after.keys() if before[crop] != after[crop])),
    )


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    names = dict.fromkeys([*before, *after])
    pairs = ((name, before.get(name, "-"), after.get(name, "-")) for name in names)
    return tuple(row for row in pairs if row[1] != row[2])
