from pathlib import Path

import pytest

from cytoseg.errors import LabelError
from cytoseg.formats import json_files
from cytoseg.formats.json_files import Inspected, checked_points, kind_of, load_json


def test_json_is_loaded_after_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert load_json(tmp_path / "a.json", name="a", advice="Again.") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"^a: is cut off or damaged \(.*\)\. Again\.$"),
        (b"[" * 100_000, r"^a: is cut off or damaged \(.*\)\. Again\.$"),
        (b'"\xff"', r"^a: is not UTF-8 text \(.*\)\. Again\. .* iconv\.$"),
        (None, r"^a: cannot be read \(No such file"),
    ],
)
def test_what_cannot_be_loaded_is_reported(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(LabelError, match=message):
        load_json(tmp_path / "a.json", name="a", advice="Again.")


def test_a_file_that_was_inspected_is_not_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in "abc"]
    for path in files:
        path.write_text(f'["{path.name}", "0123456789"]')
    monkeypatch.setattr(json_files, "KEPT_BYTES", 40)  # each has 19 characters
    inspected = Inspected()
    for path in (*files, files[0]):
        assert inspected.inspect(path, name="x", advice="") == [path.name, "0123456789"]
    for path in files:
        path.write_text("[]")
    assert [inspected.kept(path) for path in files] == [["a", "0123456789"], ["b", "0123456789"], None]
    assert [inspected.take(path, name="x", advice="").content for path in files] == [
        ["a", "0123456789"],
        ["b", "0123456789"],
        [],
    ]
    assert inspected.take(files[0], name="x", advice="").content == []
    assert inspected.inspect(files[0], name="x", advice="") == []
    assert inspected.kept(files[0]) == []  # there is room again


def test_points_are_the_first_two_numbers() -> None:
    assert checked_points([[1, 2.5], [3, 4, 99]], "x") == ((1.0, 2.5), (3.0, 4.0))


@pytest.mark.parametrize("wrong", ["1", None, True, float("nan"), float("inf"), 10_000_001, -(10**400), [1]])
def test_an_invalid_number_of_pixels_is_refused(wrong: object) -> None:
    with pytest.raises(LabelError, match=r"^x: coordinate .* is not a number of pixels\. Draw the shape again\.$"):
        checked_points([[1, wrong]], "x")


def test_values_are_named() -> None:
    assert [kind_of(v) for v in ({}, [], "", True, None, 1.5)] == [
        "a table",
        "a list",
        "text",
        "true or false",
        "null",
        "a number",
    ]
