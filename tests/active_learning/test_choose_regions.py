import math
import random
from dataclasses import replace

import numpy as np
import pytest

from cytoseg.active_learning.choose_regions import Earlier, SelectedCandidate, choose, overlapping, reason
from cytoseg.geometry import Region
from cytoseg.predict.candidate_regions import Candidate


def _candidate(slide: str, x: int, score: float, *appearance: float) -> Candidate:
    return Candidate(slide, Region(x, 0, 10, 10), score, 0.05, (0.04, 0.35, 0.61), appearance)


def _places(chosen: list[SelectedCandidate]) -> list[tuple[str, int]]:
    return [(c.candidate.slide, c.candidate.region.x) for c in chosen]


def _apart(scores: dict[str, list[float]]) -> list[Candidate]:
    """Candidates that all look as unlike each other, so that only slides and scores count."""
    found = [(slide, 10 * i, score) for slide, listed in scores.items() for i, score in enumerate(listed)]
    return [_candidate(*entry, *np.eye(len(found))[number].tolist()) for number, entry in enumerate(found)]


def test_another_slide_comes_first_unless_it_is_less_than_half_as_disputed() -> None:
    candidates = _apart({"a": [0.60, 0.59, 0.58], "b": [0.31, 0.30, 0.29], "c": [0.10, 0.09]})
    found = _places(choose(candidates, 6))
    # d'Hondt: .60 a, .31 b before .59/2 a, .58/3 a before .30/2 b, .10 c before .29/3 b.
    assert [slide for slide, _ in found] == ["a", "b", "a", "a", "b", "c"]


def test_a_region_that_looks_like_one_chosen_before_comes_late() -> None:
    candidates = [
        _candidate("a", 0, 0.60, 0.0, 0.0),
        _candidate("b", 0, 0.58, 0.0, 0.01),
        _candidate("c", 0, 0.30, 5.0, 5.0),
    ]
    found = choose(candidates, 3)
    assert _places(found) == [("a", 0), ("c", 0), ("b", 0)]
    assert found[0].distance is None
    # Standardised over the three, c is 3 / sqrt(2) = 2.12 standard deviations away from a in both.
    assert found[1].distance == pytest.approx(3 / math.sqrt(2), rel=1e-2)
    assert found[2].distance == pytest.approx(0, abs=0.01)


def test_where_all_look_the_same_the_score_decides() -> None:
    found = choose([_candidate("a", 10 * i, 0.1 + 0.1 * i, 1.0) for i in range(3)], 3)
    assert _places(found) == [("a", 20), ("a", 10), ("a", 0)]
    assert [c.of_slide for c in found] == [0, 1, 2]


def test_the_order_of_the_candidates_decides_nothing() -> None:
    candidates = [_candidate(slide, 10 * i, 0.5, float(i // 2)) for slide in "abc" for i in range(6)]
    wanted = _places(choose(candidates, 9))
    for seed in range(3):
        shuffled = random.Random(seed).sample(candidates, len(candidates))
        assert _places(choose(shuffled, 9)) == wanted


def test_no_two_that_overlap_are_chosen_and_no_more_than_there_are() -> None:
    overlapped = [_candidate("a", 0, 0.5, 0.0), _candidate("a", 9, 0.4, 9.0), _candidate("b", 5, 0.3, 3.0)]
    assert _places(choose(overlapped, 10)) == [("a", 0), ("b", 5)]
    assert choose([], 3) == []


def test_what_was_queued_earlier_counts_by_slide_and_looks() -> None:
    candidates = [_candidate("a", 0, 0.5, 0.0), _candidate("b", 0, 0.3, 4.0), _candidate("c", 0, 0.29, 2.0)]
    assert _places(choose(candidates, 1)) == [("a", 0)]
    assert _places(choose(candidates, 1, earlier=[Earlier("a", (0.0,))])) == [("b", 0)]
    assert _places(choose(candidates, 1, earlier=[Earlier("z", (4.0,)), Earlier("z", (0.0,))])) == [("c", 0)]
    # Looks of another class list cannot be compared; the slide counts on.
    assert _places(choose(candidates, 1, earlier=[Earlier("a", (0.0, 1.0))])) == [("b", 0)]


def test_regions_that_only_touch_do_not_overlap() -> None:
    region = Region(10, 10, 10, 10)
    assert overlapping(region, Region(19, 19, 5, 5))
    assert not overlapping(region, Region(20, 10, 5, 5))
    assert not overlapping(region, Region(10, 0, 10, 10))


def test_the_reason_names_classes_and_numbers() -> None:
    candidate = _candidate("a", 0, 0.4212, 1.0)
    first = reason(SelectedCandidate(candidate, None, 0), ("glass", "cytoplasm", "nucleus"))
    assert first == (
        "The ensemble disagrees on nucleus (61 %) or cytoplasm (35 %): 0.42 nats in the most "
        "uncertain tenth of this region, 0.05 in the slide's median region; the first of its slide."
    )
    later = reason(SelectedCandidate(candidate, 1.2, 1), ("glass", "cytoplasm", "nucleus"))
    assert later.endswith("; 1 is already chosen from its slide; looks different from those chosen before.")
    many = replace(candidate, class_shares=(0.08, 0.09, *(0.083,) * 10))
    text = reason(SelectedCandidate(many, None, 0), [f"class {k}" for k in range(12)])
    assert text.startswith("The ensemble disagrees on class 1 (9 %): 0.42 nats")
    alike = reason(SelectedCandidate(candidate, 0.1, 2), ("glass", "cytoplasm", "nucleus"))
    assert "2 are already chosen from its slide; looks similar to one chosen before" in alike
