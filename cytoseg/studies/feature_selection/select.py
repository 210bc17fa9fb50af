"""Greedy selection of taps, timesteps and extractors."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cytoseg.features.settings import ExtractorName
from cytoseg.studies.class_sizes import class_diameters
from cytoseg.studies.feature_selection.columns import ColumnStore, ExtractorOf
from cytoseg.studies.feature_selection.cross_validation import Bench, Measured, gain
from cytoseg.studies.feature_selection.limits import Limits, affordable_crops, pixels_within
from cytoseg.studies.feature_selection.pixels import FeatureSet, choose_both
from cytoseg.studies.feature_selection.settings import Question

NOISES = 3
OnStep = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trial:
    """One feature set in the table.

    Attributes:
        stage: ``present``, ``start``, ``single``, ``grow 1``, ..., ``settled`` (the replacement of the recipe's
            set) or the name of an option.
        measured: Its score.
        gain: Gain in mean IoU over the previously chosen set, for start and settled over the recipe's; None if not
            compared.
        spread: Standard deviation of the gains over folds and seeds.
        taken: Whether it was chosen.
    """

    stage: str
    measured: Measured
    gain: float | None = None
    spread: float | None = None
    taken: bool = False


@dataclass(frozen=True)
class Selection:
    """Result of a selection.

    Attributes:
        trials: All measurements in order.
        present: The recipe's current features.
        best: The set with the highest mean IoU before options, without single taps.
        chosen: The chosen set including options; the present one if nothing is clearly better, and nothing smaller is
            as good.
        left_out: Unmeasured sets, each with the missing resource.
        diameters: Object diameter per class in pixels.
        crops: Number of crops used.
        pixels: Training and scoring pixels per crop.
    """

    trials: tuple[Trial, ...]
    present: Measured
    best: Measured
    chosen: Measured
    left_out: tuple[tuple[FeatureSet, str], ...]
    diameters: tuple[float | None, ...]
    crops: int
    pixels: tuple[int, int]


def select_features(
    question: Question,
    extractor_of: ExtractorOf,
    *,
    limits: Limits,
    folder: Path,
    on_step: OnStep = lambda _what, _done, _total: None,
) -> Selection:
    """Measure feature sets on held-out slides, and choose taps and timesteps.

    Measured first are the recipe's current set, and each block and all blocks at each timestep; the best is the start.
    Then each single tap at each timestep. Then the set grows by the block or timestep with the largest gain, as long as
    the gain exceeds the spread between folds and seeds. The recipe's set is replaced only if the grown set, or else the
    best of all, is clearly better, or the grown set is as good with fewer features. Finally options are tried.

    Args:
        question: The question.
        extractor_of: Makes the extractor of some settings.
        limits: Limits; measurements beyond them are skipped in this order.
        folder: Folder of stored measurements.
        on_step: Called before each step with its description, the number done of this kind, and the total.

    Raises:
        LabelError: If all crops are from one slide, or those of a fold have fewer than two classes.
        CytosegError: If the memory is too small.
    """
    until = time.monotonic() + limits.seconds
    crops = affordable_crops(question, extractor_of, seconds=limits.seconds, path=folder / "crops.json")
    train_px, held_out_px = pixels_within(question, extractor_of, crops, memory_bytes=limits.memory_bytes)
    label_maps = [crop.label_map() for crop in crops]
    pixels = choose_both(label_maps, train_px=train_px, held_out_px=held_out_px, seed=question.seed)
    store = ColumnStore(
        crops,
        pixels,
        FeatureSet(question.taps, question.timesteps, question.present.scale),
        extractor_of=extractor_of,
        noise_seed=question.noise_seed,
        memory_bytes=limits.memory_bytes,
        on_crop=lambda done, total: on_step("features of crops", done, total),
    )
    search = _Search(Bench(question, store, crops, folder=folder / "runs", until=until), question, on_step)
    search.run()
    return Selection(
        tuple(search.trials),
        search.present,
        search.best,
        search.chosen,
        tuple(search.left_out),
        tuple(class_diameters(label_maps, len(question.classes))),
        len(crops),
        (train_px, held_out_px),
    )


class _Search:
    """State of the selection; ``chosen`` is the best set so far."""

    def __init__(self, bench: Bench, question: Question, on_step: OnStep) -> None:
        self.trials: list[Trial] = []
        self.left_out = bench.left_out
        self._bench, self._question, self._on_step = bench, question, on_step
        self._blocks = list(dict.fromkeys(_block(tap) for tap in question.taps))
        on_step("the recipe's features", 0, 1)
        self.present = self.best = self.chosen = self._measure_present()
        self.trials.append(Trial("present", self.present))

    def run(self) -> None:
        """Take one stage after another."""
        self.start()
        self.single_taps()
        self.grow()
        self.settle()
        self.options()

    def start(self) -> None:
        """Start from the best of: the recipe's set, each block and all blocks at each timestep."""
        joined = self.present.features.extractors
        with_taps = tuple(name for name in self._question.extractors if name in ("ddpm", *joined))
        everything = replace(self.present.features, taps=self._question.taps, extractors=with_taps)
        groups = [self._with_blocks([block]) for block in self._blocks]
        sets = [
            replace(everything, taps=taps, timesteps=(t,))
            for taps in dict.fromkeys([*groups, everything.taps])
            for t in self._question.timesteps
        ]
        found = self._measure([features for features in sets if features != self.present.features], "start")
        self.trials += [self._trial("start", measured, may_be_taken=False) for measured in found]
        self.chosen = _best([*found, self.present])

    def single_taps(self) -> None:
        """Measure each single tap at each timestep, without other extractors, for the figure."""
        sets = [
            FeatureSet((tap,), (t,), self.present.features.scale)
            for t in self._question.timesteps
            for tap in self._question.taps
        ]
        self.trials += [Trial("single", measured) for measured in self._measure(sets, "single tap", seeds=1)]

    def grow(self) -> None:
        """Add blocks and timesteps while the gain exceeds the spread."""
        for number in range(1, len(self._blocks) + len(self._question.timesteps)):
            found = self._measure(self._larger(), f"grow {number}")
            best = _best(found) if found else None
            tried = [self._trial(f"grow {number}", measured, may_be_taken=measured is best) for measured in found]
            self.trials += tried
            if best is None or not any(trial.taken for trial in tried):
                return
            self.chosen = best

    def settle(self) -> None:
        """Return to the recipe's set, unless the grown set or the best of all is clearly better.

        The grown set also replaces it if it is as good with fewer features.
        """
        self.best = _best([trial.measured for trial in self.trials if trial.stage != "single"])
        better = [found for found in (self.chosen, self.best) if _is_clearly_better(found, self.present)]
        is_leaner = self.chosen.width < self.present.width and self.chosen.score >= self.present.score
        if better:
            self.chosen = better[0]
        elif not is_leaner:
            self.chosen = self.present
        if self.chosen is not self.present:
            self.trials.append(Trial("settled", self.chosen, *gain(self.chosen, self.present), taken=True))

    def options(self) -> None:
        """Try options that recipes support, then others, each on the chosen set."""
        joined = [name for name in reversed(self._question.extractors) if name != "ddpm"]
        for stage in (*joined, "scale", "ddpm", "noises", "flips"):
            trials = _with_option(self.chosen.features, stage, self._question.extractors)
            for measured in self._measure(trials, stage):
                trial = self._trial(stage, measured, may_be_taken=stage not in ("noises", "flips"))
                self.trials.append(trial)
                self.chosen = measured if trial.taken else self.chosen

    def _measure_present(self) -> Measured:
        measured = self._bench.measure(self._question.present, required=True)
        if measured is None:
            raise AssertionError("required features are never removed")
        return measured

    def _measure(self, sets: Iterable[FeatureSet], what: str, *, seeds: int | None = None) -> list[Measured]:
        wanted, found = list(sets), []
        for done, features in enumerate(wanted):
            self._on_step(what, done, len(wanted))
            found.append(self._bench.measure(features, seeds=seeds))
        return [measured for measured in found if measured is not None]

    def _trial(self, stage: str, measured: Measured, *, may_be_taken: bool) -> Trial:
        more, spread = gain(measured, self.chosen)
        return Trial(stage, measured, more, spread, taken=may_be_taken and more > spread)

    def _larger(self) -> list[FeatureSet]:
        """List the chosen set with one more timestep, or the rest of a block; empty without taps."""
        chosen = self.chosen.features
        if not chosen.has_taps:
            return []
        timesteps = [
            replace(chosen, timesteps=tuple(sorted((*chosen.timesteps, t))))
            for t in self._question.timesteps
            if t not in chosen.timesteps
        ]
        blocks = [replace(chosen, taps=self._with_blocks([block], chosen.taps)) for block in self._blocks]
        return [*timesteps, *(features for features in blocks if features != chosen)]

    def _with_blocks(self, blocks: Sequence[str], taps: Sequence[str] = ()) -> tuple[str, ...]:
        return tuple(tap for tap in self._question.taps if tap in taps or _block(tap) in blocks)


def _best(found: Sequence[Measured]) -> Measured:
    """Return the set with the highest score; on a tie the one with the fewest features."""
    return max(found, key=lambda measured: (measured.score, -measured.width))


def _is_clearly_better(new: Measured, old: Measured) -> bool:
    more, spread = gain(new, old)
    return more > spread


def _with_option(features: FeatureSet, stage: str, extractors: Sequence[ExtractorName]) -> list[FeatureSet]:
    """Return the set with an extractor added or removed, or another option; empty where it changes nothing."""
    if stage in extractors:
        others = tuple(name for name in extractors if (name in features.extractors) != (name == stage))
        return [replace(features, extractors=others)] if others else []
    options: dict[str, FeatureSet] = {
        "scale": replace(features, scale=2 if features.scale == 1 else 1),
        "noises": replace(features, noises=NOISES),
        "flips": replace(features, flips=True),
    }
    return [options[stage]] if stage == "flips" or features.has_taps else []


def _block(tap: str) -> str:
    return tap.split(".")[0]
