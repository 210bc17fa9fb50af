import os
from pathlib import Path

import pytest

from cytoseg.slides.folder_values import innermost


def test_the_innermost_folder_decides(tmp_path: Path) -> None:
    by_folder = {tmp_path: 1.0, tmp_path / "fine": 0.4}
    assert innermost(tmp_path / "a.png", by_folder) == 1.0
    assert innermost(tmp_path / "fine" / "deep" / "a.png", by_folder) == 0.4
    assert innermost(tmp_path / "finest" / "a.png", by_folder) == 1.0
    assert innermost(tmp_path.parent / "a.png", by_folder) is None


def test_it_does_not_matter_how_a_path_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert innermost(tmp_path / "data" / "a.png", {Path("data"): 0.4}) == 0.4
    assert innermost(Path("data/../data/a.png"), {tmp_path / "data": 0.4}) == 0.4


@pytest.mark.posix
def test_links_are_taken_by_their_name_and_else_by_where_they_lead(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").touch()
    (tmp_path / "links").mkdir()
    os.symlink(tmp_path / "real" / "a.png", tmp_path / "links" / "a.png")
    os.symlink(tmp_path / "real", tmp_path / "folder")
    assert innermost(tmp_path / "links" / "a.png", {tmp_path / "links": 0.5, tmp_path / "real": 1.0}) == 0.5
    assert innermost(tmp_path / "links" / "a.png", {tmp_path / "real": 1.0}) == 1.0
    assert innermost(tmp_path / "folder" / "a.png", {tmp_path / "real": 1.0}) == 1.0
