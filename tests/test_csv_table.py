"""CSV tables read by spreadsheets, pandas and Python."""

import csv
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from cytoseg.csv_table import ENCODING, Numeral, csv_text, inert, original, write_csv

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "\uff0b1"]
BLANKS = [" =1", "\N{NO-BREAK SPACE}=1", "\ufeff=1", "\u200b\u3000@A1", "\0-1"]


@pytest.mark.parametrize("text", [*FORMULAS, *BLANKS])
def test_what_a_spreadsheet_would_take_for_a_formula_begins_with_an_apostrophe(text: str) -> None:
    assert inert(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "nucleus", "1-2", "'=1", " a", "a; b", "a=b\tc"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert inert(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a;=1", "a;'=1"), ("=1;+2", "'=1;'+2"), ("a; @b", "a;' @b"), ("a\n-1", "a\n'-1")],
)
def test_a_formula_after_what_excel_takes_for_the_end_of_a_cell(text: str, expected: str) -> None:
    """Excel in German, French, ... splits at semicolons, and knows quotes only at the start of a cell."""
    assert inert(text) == expected


@pytest.mark.parametrize("text", ["=a", " -a", "b;=a", "x\ty", "it's", "a=b", "'a", "NA", "", "\r"])
def test_an_inert_text_gives_back_the_original(text: str) -> None:
    assert original(inert(text)) == text


def test_texts_become_inert_and_numbers_stay() -> None:
    text = csv_text([["=head", "b"], [-1.5, Numeral("-0.25")], [None, "-x"], [True, "+1"]])
    assert text == "'=head,b\r\n-1.5,-0.25\r\n,'-x\r\nTrue,'+1\r\n"


def test_line_breaks_stay_within_their_cell() -> None:
    rows = list(csv.reader(StringIO(csv_text([["a\rb", "c\nd", "e,f", 'g"h']]), newline="")))
    assert rows == [["a\nb", "c\nd", "e,f", 'g"h']]


def test_a_table_is_utf_8_with_the_mark_and_pandas_passes_over_it(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [["id", "Größe"], [1, "grün"]])
    assert (tmp_path / "a.csv").read_bytes() == b"\xef\xbb\xbf" + "id,Größe\n1,grün\n".encode()
    assert pd.read_csv(tmp_path / "a.csv").to_dict("list") == {"id": [1], "Größe": ["grün"]}
    with (tmp_path / "a.csv").open(newline="", encoding=ENCODING) as file:
        assert next(csv.reader(file)) == ["id", "Größe"]


def test_an_error_leaves_the_old_table(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [["old"]])

    def broken():  # type: ignore[no-untyped-def] # a generator that fails
        yield ["new"]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_csv(tmp_path / "a.csv", broken())
    assert (tmp_path / "a.csv").read_text(encoding=ENCODING) == "old\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
