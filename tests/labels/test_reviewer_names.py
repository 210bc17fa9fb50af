import pytest

from cytoseg.labels.reviewer_names import clean_comment, clean_name, file_part, same_person


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("  Anna   Berg ", "Anna Berg"),
        ("Ağca\tÖz\n", "Ağca Öz"),
        ("山田 太郎", "山田 太郎"),
        ("a\x00b\ud800", "a b"),
        (" \t\n", ""),
        ("../../etc/passwd", "../../etc/passwd"),
        ("x" * 200, "x" * 80),
        ("x" * 79 + " y", "x" * 79),
    ],
)
def test_a_name_is_kept_in_its_script_on_one_line(typed: str, name: str) -> None:
    assert clean_name(typed) == name


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [("Anna", "anna", True), ("\u00c5sa", "a\u030asa", True), ("Groß", "GROSS", True), ("Anna", "Ann", False)],
)
def test_case_and_encoding_make_no_other_person(first: str, second: str, same: bool) -> None:
    assert same_person(first, second) == same


def test_a_comment_keeps_its_lines() -> None:
    assert clean_comment(" too\x07 dark \r\n second\tline \n\n") == "too dark\nsecond line"
    assert len(clean_comment("a" * 5000)) == 2000


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Anna Berg", "Anna-Berg"),
        ("../../etc/passwd", "etc-passwd"),
        ("C:\\con", "C-con"),
        ("山田 太郎", "山田-太郎"),
        ("हिन्दी", "हिन्दी"),
        ("A\u030anders", "Ånders"),
        ("a__b--c", "a-b-c"),
        ("...", "reviewer"),
        ("🙂", "reviewer"),
        ("\x00|<>", "reviewer"),
        ("山" * 80, "山" * 33),
    ],
)
def test_a_name_becomes_part_of_a_file_name(name: str, part: str) -> None:
    assert file_part(name) == part
