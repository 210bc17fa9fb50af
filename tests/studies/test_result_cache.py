from pathlib import Path

import pytest

from cytoseg.studies.result_cache import digest_of, read_result, write_result


def test_a_result_comes_back_as_long_as_nothing_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a.json"
    kept = write_result(path, digest_of({"rate": 1, "seed": 2}), {"counts": [1, 2]})
    assert kept["counts"] == [1, 2]
    assert read_result(path, digest_of({"seed": 2, "rate": 1})) == kept
    assert read_result(path, digest_of({"seed": 2, "rate": 2})) is None


@pytest.mark.parametrize("content", ["", "[1]", '{"counts": [1]}', "\x00"])
def test_a_damaged_file_is_no_result(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    assert read_result(tmp_path / "a.json", digest_of({})) is None
    assert read_result(tmp_path / "missing.json", digest_of({})) is None
