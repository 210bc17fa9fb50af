from pathlib import Path

import pytest

from cytoseg.studies.result_cache import digest_of, keep, read_kept


def test_a_result_comes_back_as_long_as_nothing_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a.json"
    kept = keep(path, digest_of({"rate": 1, "seed": 2}), {"counts": [1, 2]})
    assert kept["counts"] == [1, 2]
    assert read_kept(path, digest_of({"seed": 2, "rate": 1})) == kept
    assert read_kept(path, digest_of({"seed": 2, "rate": 2})) is None


@pytest.mark.parametrize("content", ["", "[1]", '{"counts": [1]}', "\x00"])
def test_a_damaged_file_is_no_result(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    assert read_kept(tmp_path / "a.json", digest_of({})) is None
    assert read_kept(tmp_path / "missing.json", digest_of({})) is None
