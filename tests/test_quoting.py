import pytest

from cytoseg.errors import CytosegError, LabelError, report
from cytoseg.quoting import MAX_LINE, join_first, join_fitting, one_line, printable, short_repr


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("Größe 3 µm, 核", "Größe 3 µm, 核"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("\u2066a\u2069", "\\u2066a\\u2069"),
        ("a\nb\tc\0", "a\\nb\\tc\\x00"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, escaped: str) -> None:
    assert printable(text) == escaped
    assert escaped.isprintable()


def test_a_long_line_keeps_its_beginning_and_its_end() -> None:
    line = one_line("a.json: label '" + "x" * 1_000_000 + "' is unknown. Rename it.")
    assert len(line) == MAX_LINE
    assert line.startswith("a.json: label 'xxx")
    assert line.endswith("xxx' is unknown. Rename it.")
    assert one_line("a" * MAX_LINE) == "a" * MAX_LINE


def test_what_escaping_makes_long_is_shortened_too() -> None:
    line = one_line("\u202e" * 400)
    assert len(line) == MAX_LINE
    assert line.isprintable()


def test_line_breaks_become_spaces() -> None:
    assert one_line("one\n  two\r\nthree\u2028four") == "one two three four"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ab", "'ab'"),
        ("x" * 100, "'" + "x" * 56 + "..."),
        (b"x" * 100, "b'" + "x" * 55 + "..."),
        ("postgresql://anna:pa:s@s@host/name", "'postgresql://anna:***@host/name'"),
        (
            "review.log=postgresql://host/name?a=b&password=secret&c=d",
            "'review.log=postgresql://host/name?a=b&password=***&c=d'",
        ),
        ("postgresql://anna@host:5432/name", "'postgresql://anna@host:5432/name'"),
        ("postgresql://anna:" + "secret" * 50 + "@host/name", "'postgresql://anna:***@host/name'"),
        ([1] * 100, "list of 100"),
        ({"a": "\u202e"}, "{'a': '\\u202e'}"),
        (float("nan"), "nan"),
    ],
)
def test_values_are_shown_shortly(value: object, text: str) -> None:
    assert short_repr(value) == text


def test_what_lies_within_itself_without_end_is_shown() -> None:
    deep: list[object] = []
    for _ in range(3000):
        deep = [deep]
    assert short_repr(deep) == "a huge list"


def test_a_whole_number_too_long_to_write_is_shown() -> None:
    assert short_repr(10**5000) == "a huge int"


def test_the_first_are_listed_and_the_others_counted() -> None:
    assert join_first(["a", "b"], max_parts=2) == "a; b"
    assert join_first("abcde", max_parts=2, between=", ") == "a, b and 3 more"


@pytest.mark.parametrize("quoted", ["x" * 100_000, "\x1b]0;title\x07", "\u202e" * 1000, "a\nb" * 5000])
def test_every_error_is_one_printable_line(quoted: str) -> None:
    line = f"cytoseg: {LabelError(f'a.json: label {quoted} is unknown. Rename it.')}"
    assert len(line) < 500
    assert line.isprintable()
    assert line.endswith("is unknown. Rename it.")


def test_several_problems_keep_their_lines_each_of_them_short() -> None:
    lines = str(CytosegError(report(["a\nb", "x" * 1000], what="label-import"))).split("\n")
    assert lines[:2] == ["label-import: 2 problems, nothing was written.", "  a b"]
    assert len(lines) == 3
    assert len(lines[2]) == MAX_LINE + 2


def test_of_very_many_problems_the_rest_is_counted() -> None:
    lines = str(CytosegError(report([f"{i}: wrong" for i in range(1000)], what="label-import"))).split("\n")
    assert len(lines) == 52
    assert lines[0] == "label-import: 1000 problems, nothing was written."
    assert lines[-2:] == ["  49: wrong", "  and 950 more"]


def test_as_many_parts_are_joined_as_fit_and_at_least_one() -> None:
    assert [join_fitting(["aa", "bb", "cc"], max_chars=most) for most in (0, 5, 6, 10, 99)] == [
        *["aa and 2 more"] * 2,
        "aa, bb and 1 more",
        *["aa, bb, cc"] * 2,
    ]
    assert join_fitting([], max_chars=9) == ""
