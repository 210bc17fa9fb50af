import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cytoseg.errors import PredictionError
from cytoseg.predict import kept_versions
from cytoseg.predict.kept_versions import keep_version, version_of, versions_of
from cytoseg.predict.sign_off_file import bundle_of

MADE = "2026-03-01T14:05:09+00:00"


def _predict(run: Path, ids: bytes = b"one", **changed: Any) -> Path:
    """Replace runs/x/predictions/board, as predict does."""
    folder = run / "predictions" / "board"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "class_map.ome.tif").write_bytes(ids)
    record = {"classes": {"cell": {}}, "provenance": {"bundle": {"sha256": {"weights": ids.hex()}}}, "made": MADE}
    (folder / "summary.json").write_text(json.dumps(record | changed))
    return folder


def test_a_kept_version_outlives_the_next_prediction(tmp_path: Path) -> None:
    prediction = _predict(tmp_path)
    (prediction / ".leftover").write_text("x")
    first = keep_version(prediction)
    assert (first.made, first.bundle) == (MADE, bundle_of(prediction)[:8])
    assert first.folder == tmp_path / "versions" / "board" / f"20260301T140509Z-{first.bundle}"
    assert (first.folder / "class_map.ome.tif").stat().st_nlink == 2  # takes no room yet
    _predict(tmp_path, b"two", made="2026-03-02T00:00:00+01:00")
    second = keep_version(prediction)
    assert second.made == "2026-03-01T23:00:00+00:00"
    assert versions_of(tmp_path, "board") == [second, first]
    assert [(one.folder / "class_map.ome.tif").read_bytes() for one in (second, first)] == [b"two", b"one"]
    assert sorted(path.name for path in first.folder.iterdir()) == ["class_map.ome.tif", "summary.json"]


def test_a_version_is_kept_once(tmp_path: Path) -> None:
    prediction = _predict(tmp_path)
    first = keep_version(prediction)
    before = first.folder.stat().st_mtime_ns
    assert keep_version(prediction) == first == version_of(prediction)
    assert first.folder.stat().st_mtime_ns == before


def test_files_are_copied_where_a_disk_has_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(kept_versions.os, "link", refuse)
    kept = keep_version(_predict(tmp_path)).folder / "class_map.ome.tif"
    assert (kept.read_bytes(), kept.stat().st_nlink) == (b"one", 1)


def test_a_version_is_kept_in_a_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(kept_versions.os, "utime", refuse)
    kept = keep_version(_predict(tmp_path))
    assert versions_of(tmp_path, "board") == [kept]


@pytest.mark.posix
def test_links_of_a_foreign_run_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    prediction = _predict(tmp_path)
    (prediction / "cells.csv").symlink_to(tmp_path / "secret")
    assert not (keep_version(prediction).folder / "cells.csv").exists()


@pytest.mark.parametrize("changed", [{"made": ""}, {"made": "yesterday"}, {"provenance": {}}])
def test_a_summary_that_identifies_no_version_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(PredictionError, match="does not say when or by which bundle it was made"):
        keep_version(_predict(tmp_path, **changed))
    assert not (tmp_path / "versions").exists()


def test_a_prediction_that_is_replaced_meanwhile_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, link = _predict(tmp_path), kept_versions._link

    def predicted_again(file: Path, place: Path) -> None:
        link(file, place)
        _predict(tmp_path, b"two", made="2026-03-02T00:00:00+00:00")

    monkeypatch.setattr(kept_versions, "_link", predicted_again)
    with pytest.raises(PredictionError, match=r"^board: was predicted again in the meantime\. Open it again\.$"):
        keep_version(prediction)
    assert versions_of(tmp_path, "board") == []


def test_other_folders_are_no_versions(tmp_path: Path) -> None:
    kept = keep_version(_predict(tmp_path))
    for name in ("notes", "20269901T000000Z-1234"):
        shutil.copytree(kept.folder, kept.folder.with_name(name))
    (kept.folder.with_name("20260302T000000Z-unfinished")).mkdir()
    assert versions_of(tmp_path, "board") == [kept]
    assert versions_of(tmp_path, "other") == []
