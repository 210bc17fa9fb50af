import json
from pathlib import Path

import numpy as np
import pytest

from cytoseg.active_learning import candidate_cache
from cytoseg.active_learning.candidate_cache import scanned
from cytoseg.active_learning.candidates import Frame, Predicted, find_candidates
from cytoseg.slides.settings import SlidesSection
from tests.predict.made import predicted

FRAME = Frame(8, SlidesSection())


@pytest.fixture
def source(tmp_path: Path) -> Predicted:
    """A slide of 24x16 px, disputed everywhere."""
    rng = np.random.default_rng(0)
    folder = predicted(
        tmp_path / "predictions",
        tmp_path / "smear.png",
        picture=rng.integers(0, 256, (16, 24, 3), dtype=np.uint8),
        ids=rng.integers(0, 2, (16, 24)).astype(np.uint8),
        nats=rng.random((16, 24)).astype(np.float32),
        classes="gc",
    )
    return Predicted("smear", folder, tmp_path / "smear.png")


def _scan(source: Predicted, frame: Frame = FRAME) -> tuple[object, int]:
    """Give the candidates, and how many parts of the maps were read for them."""
    parts: list[int] = []
    folder = source.folder.parents[1] / "scans"
    return scanned(source, frame, classes=2, folder=folder, on_part=lambda done, _total: parts.append(done)), len(parts)


def test_what_was_found_before_is_read_back(source: Predicted) -> None:
    wanted = find_candidates(source, FRAME, classes=2)
    assert len(wanted) == 6
    assert _scan(source) == (wanted, 1)
    assert _scan(source) == (wanted, 0)


def test_another_prediction_or_size_is_searched_again(source: Predicted) -> None:
    _scan(source)
    assert _scan(source, Frame(4, SlidesSection()))[1] == 1
    (source.folder / "summary.json").write_text("{}")
    assert _scan(source)[1] == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"key": 1}'])
def test_a_damaged_file_is_rewritten(source: Predicted, content: str) -> None:
    wanted, _ = _scan(source)
    path = source.folder.parents[1] / "scans" / "smear.json"
    path.write_text(content)
    assert _scan(source) == (wanted, 1)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"candidates": [{"region": [1, 2]}]}))
    assert _scan(source) == (wanted, 1)


def test_a_file_of_another_format_is_rewritten(source: Predicted, monkeypatch: pytest.MonkeyPatch) -> None:
    _scan(source)
    monkeypatch.setattr(candidate_cache, "FORMAT", candidate_cache.FORMAT + 1)
    assert _scan(source)[1] == 1


def test_where_nothing_can_be_written_the_candidates_are_found_each_time(source: Predicted) -> None:
    wanted = find_candidates(source, FRAME, classes=2)
    (source.folder.parents[1] / "scans").write_text("a file where the folder should be")
    assert _scan(source) == (wanted, 1)
    assert _scan(source) == (wanted, 1)
