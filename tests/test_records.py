"""Records: reading, writing and refusing invalid JSON files."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from cytoseg.errors import LabelError
from cytoseg.geometry import Region
from cytoseg.records import RecordFile, RegionAsList
from tests.shut import shut


@dataclass(frozen=True)
class Mark:
    name: str
    region: RegionAsList
    share: float | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("has no name")


@dataclass(frozen=True)
class Marks:
    slide: str
    marks: tuple[Mark, ...] = ()
    counts: dict[str, int] | None = None
    tags: tuple[str, ...] = ()


FILE = RecordFile(Marks, LabelError, "Delete {folder}.", format=2, not_json="is not JSON, {kind}: {why}")
MARKS = Marks("s", (Mark("a", Region(1, 2, 3, 4)), Mark("b", Region(0, 0, 1, 1), 0.5)), {"x": 3})


def _write(folder: Path, content: object) -> Path:
    path = folder / "marks.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    content = FILE.content_of(MARKS)
    assert list(content) == ["format", "slide", "marks", "counts", "tags"]
    assert (content["format"], content["marks"][0]["region"], content["counts"]) == (2, [1, 2, 3, 4], {"x": 3})
    assert FILE.read(_write(tmp_path, content)) == MARKS


def test_defaults_may_be_left_out(tmp_path: Path) -> None:
    content = FILE.content_of(MARKS, without_defaults=True)
    assert content["marks"][0] == {"name": "a", "region": [1, 2, 3, 4]}
    assert FILE.read(_write(tmp_path, content)) == MARKS


def test_a_key_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    assert FILE.read(_write(tmp_path, {"format": 2, "slide": "s", "later": [{}]})) == Marks("s")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([], "the file contains no record"),
        ({"slide": "s"}, "has format None, this version reads 2"),
        ({"format": 1, "slide": "s"}, "has format 1, this version reads 2"),
        ({"format": 2}, "the file has no usable 'slide' (found 'None')"),
        ({"format": 2, "slide": 3}, "the file has no usable 'slide' (found '3')"),
        ({"format": 2, "slide": "s", "marks": 3}, "the file has no usable 'marks' (found '3')"),
        ({"format": 2, "slide": "s", "marks": [3]}, "'marks' is not a list of records"),
        ({"format": 2, "slide": "s", "tags": [3]}, "the file has no usable 'tags' (found '3')"),
        ({"format": 2, "slide": "s", "counts": {"x": "3"}}, "the file has no usable 'x' (found '3')"),
        ({"format": 2, "slide": "s", "counts": {"x": True}}, "the file has no usable 'x' (found 'True')"),
        ({"format": 2, "slide": "s", "counts": {"x": 3.0}}, "the file has no usable 'x' (found '3.0')"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: object, why: str) -> None:
    with pytest.raises(LabelError) as caught:
        FILE.read(_write(tmp_path, content))
    assert str(caught.value) == f"marks.json: {why}. Delete {tmp_path}."


@pytest.mark.parametrize(
    ("mark", "why"),
    [
        ({"name": "a"}, "mark 2 has no usable 'region' (found 'None')"),
        ({"name": "a", "region": [1]}, "mark 2: [1] is not a region [x, y, width, height] in whole pixels"),
        ({"name": "", "region": [0, 0, 1, 1]}, "mark 2: has no name"),
        ({"name": "a", "region": [0, 0, 1, 1], "share": "1"}, "mark 2 has no usable 'share' (found '1')"),
    ],
)
def test_a_part_of_a_list_is_numbered(tmp_path: Path, mark: object, why: str) -> None:
    path = _write(tmp_path, {"format": 2, "slide": "s", "marks": [{"name": "a", "region": [0, 0, 1, 1]}, mark]})
    with pytest.raises(LabelError) as caught:
        FILE.read(path, name="x/marks")
    assert str(caught.value) == f"x/marks: {why}. Delete {tmp_path}."


def test_what_is_no_json_is_said_with_its_kind(tmp_path: Path) -> None:
    with pytest.raises(
        LabelError, match=r"^marks\.json: is not JSON, JSONDecodeError: is cut off or damaged \(Expecting"
    ):
        FILE.read(_write(tmp_path, '{"format": 2,'))


def test_files_without_a_number_may_be_those_of_before(tmp_path: Path) -> None:
    old = RecordFile(Marks, LabelError, "Delete it.", unnumbered=True)
    assert old.read(_write(tmp_path, {"slide": "s"})) == Marks("s")
    assert old.read_or_none(_write(tmp_path, {"format": None, "slide": "s"})) is None
    assert old.read_or_none(tmp_path / "missing.json") is None


def test_a_file_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, FILE.content_of(MARKS))
    shut(monkeypatch, path)
    with pytest.raises(LabelError, match=r"^marks\.json: cannot be read \(Permission denied\)\. Ask its owner"):
        FILE.read(path)
