import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from cytoseg.classes import IGNORE, RESERVED, ClassList, SavedClasses
from cytoseg.formats.annotation import HOLE, UNSCORED

CELLS = ClassList(("background", "cell", "nucleus"), ((240, 240, 240), (0, 114, 178), (213, 94, 0)), "cell")


def test_length_is_the_number_of_names() -> None:
    assert len(CELLS) == 3


def test_unmarked_pixels_get_the_fill_class() -> None:
    assert CELLS.fill_id == 1


def test_without_a_fill_class_unmarked_pixels_are_ignored() -> None:
    assert ClassList(("a", "b"), ((0, 0, 0), (1, 1, 1))).fill_id == IGNORE == 255


def test_colour_table_colours_the_classes_and_blackens_the_rest() -> None:
    table = CELLS.colour_table()
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    label_map = np.array([[0, 1], [2, IGNORE]])
    np.testing.assert_array_equal(table[label_map], [[[240] * 3, [0, 114, 178]], [[213, 94, 0], [0, 0, 0]]])
    assert not table[3:].any()


@pytest.mark.parametrize(("colours", "fill"), [(((1, 2, 3),), None), (((1, 2, 3), (4, 5, 6)), "c")])
def test_a_saved_class_list_whose_parts_do_not_fit_is_refused(
    colours: tuple[tuple[int, int, int], ...], fill: str | None
) -> None:
    with pytest.raises(ValueError, match="the parts of the class list do not fit"):
        SavedClasses(("a", "b"), colours, fill)


def test_a_saved_class_list_is_one() -> None:
    assert SavedClasses(("a",), ((1, 2, 3),), "a").class_list() == ClassList(("a",), ((1, 2, 3),), "a")


def test_a_saved_class_list_has_as_many_classes_as_a_recipe() -> None:
    record = TypeAdapter(SavedClasses)
    names = [str(number) for number in range(256)]
    parts = {"names": names[:255], "colours": [[0, 0, 0]] * 255, "fill": None}
    assert len(record.validate_python(parts).class_list()) == 255
    with pytest.raises(ValidationError, match="at most 255 items"):
        record.validate_python({"names": names, "colours": [[0, 0, 0]] * 256, "fill": None})


def test_the_reserved_names_are_those_of_annotations() -> None:
    assert set(RESERVED) == {HOLE, UNSCORED}
