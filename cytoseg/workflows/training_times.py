"""Estimated seconds of the trainings of ``compare`` and ``study``."""

from collections.abc import Sequence
from dataclasses import replace

from cytoseg.interpreter.unet_baseline import STEPS
from cytoseg.labels.index import LabelledCrop
from cytoseg.studies.compare import ComparedMethod
from cytoseg.workflows.compared_methods import TrainingData

_REFERENCE_PX = 30 * 256 * 256
_ABOUT_S = {
    **{"commonest": (0, 0), "thresholds": (1, 0.3), "forest": (124, 8), "filters": (8, 7)},
    **{"random": (25, 21), "ddpm": (23, 19), "joined": (27, 22), "ensemble": (0, 20)},
    **{"scratch": (195, 1), "imagenet-unet": (400, 10), "decoder": (900, 20), "decoder-random": (900, 20)},
}
"""Seconds for training on this many labelled pixels, and for scoring as many, measured on one core of a server, see
tests/benchmarks/results/compare_lbc_base.md; the last three, and the scoring of a bundle, are rough."""
_FIXED_STEPS = ("scratch", "imagenet-unet", "decoder", "decoder-random")
"""Methods whose training does not take longer with more pixels."""
_OTHER_S = (28, 22)


def timed(
    methods: Sequence[ComparedMethod], learning: TrainingData, test: Sequence[LabelledCrop]
) -> list[ComparedMethod]:
    """Add the estimated seconds to each method, on a CPU only.

    Args:
        methods: The methods.
        learning: Their training data.
        test: The test crops.
    """
    if learning.device.type != "cpu":
        return list(methods)
    train_px = sum(picture.shape[0] * picture.shape[1] for picture in learning.labelled.pictures)
    test_px = sum(crop.width * crop.height for crop in test)

    def with_times(method: ComparedMethod) -> ComparedMethod:
        training_s, scoring_s = _ABOUT_S.get(method.key, _OTHER_S)
        scoring_s *= test_px / _REFERENCE_PX
        if method.key == "scratch":
            training_s *= method.settings["steps"] / STEPS
        if method.key not in _FIXED_STEPS:
            training_s *= train_px / _REFERENCE_PX
        return replace(method, about_s=training_s + scoring_s, scoring_s=scoring_s)

    return [with_times(method) for method in methods]
