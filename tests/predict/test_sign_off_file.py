"""Sign-offs beside the results: written, read, outdated, damaged."""

import json
from pathlib import Path

import pytest

from cytoseg.errors import PredictionError
from cytoseg.predict.sign_off_file import (
    SIGN_OFF,
    SignedOff,
    bundle_of,
    cells_of,
    read_signed_off,
    write_signed_off,
)

ANNA = SignedOff("036", "approved", "Anna Øster", "2026-11-29T10:00:00+00:00", "all\nof it", "ab" * 32)


def test_a_sign_off_comes_back_and_is_written_once(tmp_path: Path) -> None:
    assert read_signed_off(tmp_path) is None
    write_signed_off(tmp_path, ANNA)
    before = (tmp_path / SIGN_OFF).stat().st_mtime_ns
    write_signed_off(tmp_path, ANNA)
    assert (tmp_path / SIGN_OFF).stat().st_mtime_ns == before
    assert read_signed_off(tmp_path) == ANNA
    assert "Anna Øster" in (tmp_path / SIGN_OFF).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "sign_off.json: .*Sign the slide off again"), ('{"format": 1, "slide": 3}', "sign_off.json: .*slide")],
)
def test_damage_is_reported(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / SIGN_OFF).write_text(text)
    with pytest.raises(PredictionError, match=said):
        read_signed_off(tmp_path)
    write_signed_off(tmp_path, ANNA)
    assert read_signed_off(tmp_path) == ANNA


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PredictionError, match=r"sign_off.json: cannot be written .* is in the log, however"):
        write_signed_off(tmp_path / "file", ANNA)


def test_it_is_said_whether_the_prediction_is_still_the_same(tmp_path: Path) -> None:
    assert cells_of(tmp_path) == ("",) * 6
    write_signed_off(tmp_path, ANNA)
    assert cells_of(tmp_path) == ("approved", "Anna Øster", ANNA.time, "all\nof it", "ab" * 32, "yes")
    (tmp_path / "summary.json").write_text(json.dumps({"provenance": {"bundle": {"sha256": {"a": "1"}}}}))
    assert cells_of(tmp_path)[-1] == "no"


def test_a_bundle_has_one_hash_whatever_the_order(tmp_path: Path) -> None:
    def told(**hashes: str) -> str:
        (tmp_path / "summary.json").write_text(json.dumps({"provenance": {"bundle": {"sha256": hashes}}}))
        return bundle_of(tmp_path)

    assert told(a="1", b="2") == told(b="2", a="1") != told(a="2", b="1")
    assert len(told(a="1")) == 64
    for odd in ("{}", "[", '{"provenance": {"bundle": "3f2a"}}'):
        (tmp_path / "summary.json").write_text(odd)
        assert bundle_of(tmp_path) == ""
    (tmp_path / "summary.json").unlink()
    assert bundle_of(tmp_path) == ""
