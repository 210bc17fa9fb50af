import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cytoseg.errors import FileContentError
from cytoseg.yaml_text import load_yaml, parse_yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1e-4\nb: no\n", {"a": 1e-4, "b": "no"}),
        ("a: &x [1]\nb: *x\n", {"a": [1], "b": [1]}),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", {"a": {"b": 1}, "c": {"b": 1}}),
        ("", None),
    ],
)
def test_yaml_is_read(text: str, value: object) -> None:
    assert parse_yaml(text, name="a.yaml") == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [1", "while parsing a flow sequence"),
        ("a: 1\na: 2\n", "duplicate key"),
        ("a: " + "[" * 40 + "]" * 40, "lists or tables within each other more than 32 deep"),
        ("- " * 2000 + "x", "maximum recursion depth"),
        ("- " * 40 + "x", "lists or tables within each other more than 32 deep"),
        ("a: &a [*a]", "lists or tables within each other more than 32 deep"),
        (LAUGHS, "more than 100,000 values"),
        (MERGES, "merge keys beside more than 30 aliases"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("a: 0x" + "f" * 5000, "a whole number of more than 19 digits"),
        ("a: 2024-99-99", "month must be in"),
        ("a: !!bool x", "'x'"),
        ('a: "\\U99999999"', "too large"),
        ("a: \0", "unacceptable character"),
        ("a: \udcf6", "a lone surrogate"),
        ('a: "\\ud83d"', "a lone surrogate"),
        ("a: !!set {b, c}", "a set value; write a list or text"),
        ("a: !!binary aGVsbG8=", "a bytes value; write a list or text"),
    ],
    ids=range(18),
)
def test_what_is_not_read_is_refused_in_one_line(text: str, why: str) -> None:
    begin = time.process_time()
    with pytest.raises(FileContentError, match=rf"^a\.yaml: not YAML \(.*{why}") as caught:
        parse_yaml(text, name="a.yaml")
    assert time.process_time() - begin < 5
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 3000, "lists or tables within each other more than 32 deep"),
        ("[" + ("{a: " * 200 + "}" * 200 + ",") * 99, "lists or tables within each other more than 32 deep"),
        ("[" + ("[" * 30 + "]" * 30 + ",") * 1600 + "]", "more than 10,000 opening brackets"),
    ],
    ids=range(3),
)
def test_brackets_that_would_take_the_parser_seconds_are_refused_before(text: str, why: str) -> None:
    begin = time.process_time()
    with pytest.raises(FileContentError, match=rf"^a\.yaml: not YAML \({why}\)\.$"):
        parse_yaml(text, name="a.yaml")
    assert time.process_time() - begin < 1


def test_brackets_of_texts_are_no_nesting() -> None:
    text = "a: ']]]]'\nb: " + "[x, [y]]\n# " + "[" * 60 + "\nc: '" + "{" * 30 + "'\n"
    assert parse_yaml(text, name="a.yaml") == {"a": "]]]]", "b": ["x", ["y"]], "c": "{" * 30}


def test_a_file_that_never_ends_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: [" + "1, " * 3_500_000)
    begin = time.process_time()
    with pytest.raises(FileContentError, match=r"^a\.yaml: is 10\.5 MB long\. .* CYTOSEG_MAX_YAML_KB to more than 100"):
        load_yaml(path)
    with pytest.raises(FileContentError, match=r"^override: is 10\.5 MB long"):
        parse_yaml(path.read_text(), name="override")
    assert time.process_time() - begin < 1


def test_comments_are_kept_by_a_reader_that_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1  # one\n")
    assert load_yaml(tmp_path / "a.yaml") == {"a": 1}
    assert load_yaml(tmp_path / "a.yaml", yaml=YAML()).ca.items["a"][2].value == "# one\n"


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with pytest.raises(FileContentError, match=r"^the recipe: not YAML \(.*can't decode"):
        load_yaml(tmp_path / "a.yaml", name="the recipe")
