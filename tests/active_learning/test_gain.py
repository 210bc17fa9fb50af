import numpy as np
import pytest

from cytoseg.active_learning.gain import gain_sentences
from cytoseg.evaluation.learning_curve import Curve
from cytoseg.labels.queue_file import Round, Scored

NAMES = ("glass", "nucleus")
BEFORE = Scored("monday", 20, 0.7, {"glass": 0.9, "nucleus": 0.5})
AFTER = Scored("friday", 40, 0.74, {"glass": 0.9, "nucleus": 0.58})
ROUND = Round("2026-11-21", 10, BEFORE)


def _curve() -> Curve:
    """Two draws; the nucleus gains .04 or .06 with every doubling, the glass nothing."""
    nucleus = np.array([[0.42, 0.38], [0.46, 0.44], [0.50, 0.50]])
    return Curve("MLPs", (5, 10, 20), np.stack([np.full((3, 2), 0.9), nucleus], axis=2))


def test_the_gain_stands_beside_the_estimate() -> None:
    assert gain_sentences([ROUND], AFTER, curve=_curve(), names=NAMES) == [
        "Queued 2026-11-21: 10 regions. Trained on 20 crops then and 40 after:",
        "mean IoU: 0.700 before, 0.740 after (+0.040); the study's estimate was +0.025 (+0.020 to +0.030).",
        "IoU glass: 0.900 before, 0.900 after (+0.000); the study's estimate was +0.000 (+0.000 to +0.000).",
        "IoU nucleus: 0.500 before, 0.580 after (+0.080); the study's estimate was +0.051 (+0.040 to +0.061).",
    ]


@pytest.mark.parametrize("curve", [None, Curve("MLPs", (5, 30), np.full((2, 1, 2), 0.5))])
def test_without_a_study_there_is_no_estimate(curve: Curve | None) -> None:
    _, mean, *_ = gain_sentences([ROUND], AFTER, curve=curve, names=NAMES)
    assert mean.endswith("(+0.040); no estimate: `cytoseg study label-efficiency` with several --counts makes one.")


@pytest.mark.parametrize(
    ("queued", "now", "sentence"),
    [
        (ROUND, BEFORE, "Not evaluated since: correct them, then run label-import"),
        (ROUND, None, "Not evaluated since"),
        (ROUND, Scored("friday", 20, 0.7, {}), r"on no more train crops than then \(20\): import the corrected files"),
        (Round("today", 1, None), AFTER, "1 region. The run had not been evaluated then"),
    ],
)
def test_what_is_missing_is_said(queued: Round, now: Scored | None, sentence: str) -> None:
    (found,) = gain_sentences([queued], now, curve=None, names=NAMES)
    assert found.startswith(f"Queued {queued.when}: {queued.regions} region")
    assert sentence.replace("\\", "") in found


def test_a_round_is_compared_with_the_evaluation_of_the_next() -> None:
    later = Round("2026-11-28", 5, AFTER)
    heads = [s for s in gain_sentences([ROUND, later], AFTER, curve=None, names=NAMES) if s.startswith("Queued")]
    assert [("20 crops then and 40" in head, "Not evaluated since" in head) for head in heads] == [
        (True, False),
        (False, True),
    ]


def test_a_class_that_does_not_apply_is_left_out() -> None:
    after = Scored("friday", 40, 0.74, {"glass": None, "nucleus": 0.58})
    found = gain_sentences([ROUND], after, curve=None, names=NAMES)
    assert [line.split(":")[0] for line in found[1:]] == ["mean IoU", "IoU nucleus"]


def test_no_round_says_nothing() -> None:
    assert gain_sentences([], AFTER, curve=None, names=NAMES) == []
