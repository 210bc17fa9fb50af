import json
from pathlib import Path
from typing import Any

import pytest

from cytoseg.errors import CytosegError
from cytoseg.evaluation.sample_scores import read_sample_scores

FOUND = {
    "format": 1,
    "count": 64,
    "draws": 3,
    "network": {"name": "filters", "hash": "0123456789ab"},
    "real": "held-out slides",
    "samples": {"kid": [1.25, 0.5], "fid": [20, 1.0], "inception": [1.5, 0.0]},
    "floor": {"kid": [0.01, 0.02], "fid": [2.0, 0.1], "inception": [1.75, 0.0]},
}


def leave_scores(run: Path, **changes: Any) -> None:
    """Leave scores.json in a run's samples/."""
    (run / "samples").mkdir(parents=True)
    (run / "samples" / "scores.json").write_text(json.dumps({**FOUND, **changes}))


def test_scores_become_rows_in_one_order(tmp_path: Path) -> None:
    leave_scores(tmp_path)
    found = read_sample_scores(tmp_path)
    assert found is not None
    assert found.rows() == [
        ("FID", "20.000 +- 1.000", "2.000 +- 0.100"),
        ("KID", "1.250 +- 0.500", "0.010 +- 0.020"),
        ("IS", "1.500 +- 0.000", "1.750 +- 0.000"),
    ]
    assert found.sentence().startswith("Against as many crops of held-out slides, 3 draws (mean +- standard")
    assert "Features: filters (0123456789ab), standardised by the real crops." in found.sentence()


@pytest.mark.posix
def test_without_scores_there_are_none(tmp_path: Path) -> None:
    assert read_sample_scores(tmp_path) is None
    leave_scores(tmp_path / "other")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "samples").symlink_to(tmp_path / "other" / "samples")
    assert read_sample_scores(tmp_path / "run") is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, r"scores\.json: .*format"),
        ({"count": "many"}, r"scores\.json: .*'count'"),
        ({"floor": {}}, r"scores\.json: .*score 'kid' without a floor"),
        ({"samples": {"beauty": [1, 0]}, "floor": {"beauty": [1, 0]}}, r"score 'beauty' without a floor"),
        ({"samples": {"kid": [1]}}, r"scores\.json: "),
    ],
)
def test_damaged_scores_are_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    leave_scores(tmp_path, **changes)
    with pytest.raises(CytosegError, match=said) as caught:
        read_sample_scores(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_sentence_says_what_was_compared_and_searched(tmp_path: Path) -> None:
    network = {"name": "inception-v3", "hash": "ab"}
    leave_scores(tmp_path, network=network, searched=2500, seen=16000)
    found = read_sample_scores(tmp_path)
    assert found is not None
    assert (found.count, found.draws) == (64, 3)
    assert found.sentence() == (
        "Against as many crops of held-out slides, 3 draws (mean +- standard deviation). Features: inception-v3 (ab). "
        "The floor is what as many real crops of other slides score. Copies were searched among 2,500 of 16,000 "
        "training crops, flipped and turned ones included."
    )
    leave_scores(tmp_path / "earlier")
    earlier = read_sample_scores(tmp_path / "earlier")
    assert earlier is not None
    assert (earlier.searched, earlier.seen) == (0, 0)
    assert earlier.sentence().endswith("real crops of other slides score.")
