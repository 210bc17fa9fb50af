import numpy as np
import pytest
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.drawing.sheet import (
    INK,
    SWATCH_PX,
    Spacing,
    class_entries,
    fitted,
    legend,
    put_titled,
    text_width_px,
    wrapped,
)

SPACING = Spacing(gap_px=10, line_px=22)
RED, BLUE = (200, 0, 0), (0, 0, 200)


def test_a_legend_has_an_outlined_swatch_before_each_text_and_none_before_a_heading() -> None:
    strip = np.asarray(legend([("heading", None), ("cell", RED)], 400, SPACING))
    assert strip.shape == (22, 400, 3)
    left = 10 + 22 + int(np.ceil(text_width_px("heading"))) + 2 * 10
    inside = strip[2:SWATCH_PX, left + 1 : left + SWATCH_PX - 1]
    np.testing.assert_array_equal(inside, np.broadcast_to(RED, inside.shape))
    np.testing.assert_array_equal(strip[1, left : left + SWATCH_PX], [INK] * SWATCH_PX)
    assert (strip[:, 10:20] < 128).any()  # the heading begins at the edge


def test_a_picture_may_be_a_swatch_and_the_text_stands_behind_it() -> None:
    wide = np.full((SWATCH_PX, 80, 3), BLUE, np.uint8)
    strip = np.asarray(legend([("ramp", wide)], 300, SPACING))
    np.testing.assert_array_equal(strip[8, 11:89], [BLUE] * 78)
    assert (strip[:, 90:96] == 255).all()
    assert (strip[:, 96:] < 128).any()


@pytest.mark.parametrize(("width", "lines"), [(1000, 1), (150, 3), (10, 3)])
def test_a_legend_breaks_lines_where_the_sheet_ends(width: int, lines: int) -> None:
    assert legend([("a class of cells", RED)] * 3, width, SPACING).size == (width, lines * 22)


def test_the_fill_class_has_a_note() -> None:
    classes = ClassList(("glass", "cell"), (BLUE, RED), "glass")
    assert class_entries(classes, fill_note="(left clear)") == [("glass (left clear)", BLUE), ("cell", RED)]
    assert class_entries(ClassList(("a",), (RED,)), fill_note="(left clear)") == [("a", RED)]


def test_a_picture_stands_below_its_title() -> None:
    sheet = Image.new("RGB", (60, 40), "white")
    put_titled(sheet, np.full((4, 4, 3), 7, np.uint8), "x", (10, 3), SPACING)
    seen = np.asarray(sheet)
    assert (seen[25:29, 10:14] == 7).all()
    assert (seen[3:25] < 128).any()


def test_a_text_is_shortened_in_its_middle() -> None:
    assert fitted("short", 200) == "short"
    text = fitted("begin" + "x" * 50 + "end", 100)
    assert text.startswith("begin")
    assert text.endswith("end")
    assert text_width_px(text) <= 100


def test_a_name_of_thousands_of_characters_is_shortened_at_once() -> None:
    text = fitted("a" * 100_000 + "b", 200)
    assert text == "aaaaaaaaaaa…aaaaaaaaaab"


def test_lines_are_broken_between_words() -> None:
    lines = wrapped("one two three four " + "x" * 40, 80)
    assert " ".join(lines) == "one two three four " + "x" * 40
    assert all(text_width_px(line) <= 80 for line in lines[:-1])
    assert lines[-1] == "x" * 40
    assert wrapped("", 80) == [""]
