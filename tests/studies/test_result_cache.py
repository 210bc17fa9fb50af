import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from cytoseg.studies.result_cache import StoredResult, digest_of, read_result, result_file, write_result


@dataclass(frozen=True)
class Counted(StoredResult):
    """A result of a made-up study."""

    counts: tuple[int, ...]


FILE = result_file(Counted)
DIGEST = digest_of({"rate": 1, "seed": 2})


def test_a_result_comes_back_as_long_as_nothing_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a.json"
    kept = write_result(path, Counted(DIGEST, (1, 2)), FILE)
    assert kept.counts == (1, 2)
    assert json.loads(path.read_text()) == {"format": 1, "digest": DIGEST, "counts": [1, 2]}
    assert read_result(path, digest_of({"seed": 2, "rate": 1}), FILE) == kept
    assert read_result(path, digest_of({"seed": 2, "rate": 2}), FILE) is None


def test_a_result_without_a_format_number_was_written_by_an_earlier_version(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"digest": DIGEST, "counts": [3]}))
    assert read_result(tmp_path / "a.json", DIGEST, FILE) == Counted(DIGEST, (3,))


@pytest.mark.parametrize("wrong", ["", "[1]", '{"counts": [1]}', "\x00", f'{{"digest": "{DIGEST}", "counts": ["1"]}}'])
def test_a_damaged_file_is_no_result(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "a.json").write_text(wrong)
    assert read_result(tmp_path / "a.json", DIGEST, FILE) is None
    assert read_result(tmp_path / "missing.json", DIGEST, FILE) is None
