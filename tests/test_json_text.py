import os
import time
from pathlib import Path

import pytest

from cytoseg.errors import CytosegError, FileContentError
from cytoseg.json_text import MAX_DEPTH, load_json, parse_json


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b'{"a": [1, 2.5, null, true]}', {"a": [1, 2.5, None, True]}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": [1], "b": 2, "a": [1]}', {"a": [1], "b": 2}),
        (b"[9223372036854775807, 1e5]", [2**63 - 1, 1e5]),
        (b'["99999999999999999999999999", "1e999"]', ["9" * 26, "1e999"]),
        (b"1234567890123456789012.5", 1234567890123456789012.5),
        (b'"' + b"[" * 1000 + b'\\""', "[" * 1000 + '"'),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
        (b'["\\ud83d\\ude00", "C:\\\\ud83d"]', ["\U0001f600", "C:\\ud83d"]),
    ],
)
def test_json_is_read(content: bytes, value: object) -> None:
    found = parse_json(content, name="a.json")
    assert found == value or value is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", r"is cut off or damaged \(Expecting value"),
        (b'{"a": ', r"is cut off or damaged \(Expecting value"),
        (b"\xff", r"is not UTF-8 text \(invalid start byte\)"),
        (b"\xff\xfe1\0", r"is not UTF-8 text"),
        (b"NaN", r"is cut off or damaged \(NaN is not a number\)"),
        (b"[-Infinity]", r"is cut off or damaged \(-Infinity is not a number\)"),
        (b"[1e999]", r"is cut off or damaged \(the number 1e999 is too large\)"),
        (b"[" + b"9" * 400 + b".5]", r"is cut off or damaged \(the number 99999999999999999999 is too large\)"),
        (b"9223372036854775808", r"is cut off or damaged \(a whole number of 19 digits\)"),
        (b"-" + b"9" * 100_000, r"is cut off or damaged \(a whole number of 100000 digits\)"),
        (b"[" * (MAX_DEPTH + 1), r"is cut off or damaged \(lists or tables more than 64 deep\)"),
        (b'{"a":' * 100_000, r"is cut off or damaged \(lists or tables more than 64 deep\)"),
        (b'["' + b"]" * 900 + b'",' + b"[" * 900, r"is cut off or damaged \(lists or tables more than 64 deep\)"),
        (b"[" + b"[]," * 10_000_000, r"would take [\d,]+ MB of memory.*set CYTOSEG_MAX_JSON_MB to more than 1000"),
        (b'"' + b"\\" * 100_000, r"is cut off or damaged"),
        (b'["\\ud83d"]', r"holds a lone surrogate, which is half a character"),
        (b'["\\ud83d\\ude00 \\\\\\uDE00"]', r"holds a lone surrogate, which is half a character"),
        (b'[{"a": 1, "a": 2}]', r"is cut off or damaged \(the key 'a' is there twice with different values\)"),
    ],
    ids=range(18),
)
def test_what_is_not_read_is_refused_in_one_line(content: bytes, why: str) -> None:
    begin = time.process_time()
    with pytest.raises(FileContentError, match=rf"^a\.json: {why}") as caught:
        parse_json(content, name="a.json")
    assert time.process_time() - begin < 5
    assert str(caught.value) == f"a.json: {caught.value.why}."


def test_not_a_number_is_null_where_that_is_wanted() -> None:
    assert parse_json("[NaN]", name="a", numbers="nan as null") == [None]
    with pytest.raises(FileContentError, match="-Infinity is not a number"):
        parse_json("[-Infinity]", name="a", numbers="nan as null")


def test_numbers_of_other_programs_are_left_to_their_reader() -> None:
    assert parse_json("[Infinity, 1e999, " + "9" * 30 + "]", name="a", numbers="any") == [float("inf")] * 2 + [
        10**30 - 1
    ]
    with pytest.raises(FileContentError, match="Exceeds the limit"):
        parse_json("9" * 5000, name="a", numbers="any")


def test_text_that_no_file_can_hold_is_refused() -> None:
    with pytest.raises(FileContentError, match=r"is not UTF-8 text \(surrogates not allowed\)"):
        parse_json('"\ud800"', name="a")


def test_the_limit_is_raised_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text('["' + "x" * 1_000_000 + '"]')
    monkeypatch.setenv("CYTOSEG_MAX_JSON_MB", "1")
    with pytest.raises(FileContentError, match=r"^a\.json: is 1\.0 MB long\. .* CYTOSEG_MAX_JSON_MB to more than 1\.$"):
        load_json(path)
    monkeypatch.setenv("CYTOSEG_MAX_JSON_MB", "4")
    assert len(load_json(path)[0]) == 1_000_000


@pytest.mark.parametrize("value", ["-1", "many", "0", "9" * 5000])
def test_a_limit_that_is_none_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYTOSEG_MAX_JSON_MB", value)
    with pytest.raises(CytosegError, match=r"^CYTOSEG_MAX_JSON_MB: '.*' is not a whole number above 0"):
        parse_json(b" " * 20_000, name="a")


@pytest.mark.posix
def test_a_pipe_or_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    for path in (tmp_path / "a.json", tmp_path):
        with pytest.raises(FileContentError, match="is not a regular file"):
            load_json(path)


def test_a_missing_file_stays_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_json(tmp_path / "a.json", name="the file")
