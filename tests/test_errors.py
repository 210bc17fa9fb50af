import pytest

from cytoseg.errors import (
    CheckpointError,
    CytosegError,
    LabelError,
    PredictionError,
    RecipeError,
    SlideError,
    report,
    together,
)


def test_one_problem_is_its_own_message() -> None:
    assert report(["a.json: cut short."], what="label-import") == "a.json: cut short."


def test_several_problems_are_counted_and_listed() -> None:
    assert report(["a: bad.", "b: worse."], what="label-import") == (
        "label-import: 2 problems, nothing was written.\n  a: bad.\n  b: worse."
    )


@pytest.mark.parametrize("kind", [RecipeError, SlideError, LabelError, CheckpointError, PredictionError])
def test_every_error_of_a_user_is_caught_as_one_kind(kind: type[Exception]) -> None:
    assert issubclass(kind, CytosegError)


def test_what_several_files_have_in_common_is_said_once() -> None:
    said = together(["b.png: cut off.", "a.png: empty.", "c.png: cut off.", "no folder."])
    assert said == ["b.png: cut off. The same holds for c.png.", "a.png: empty.", "no folder."]
    many = together([f"{number}.png: empty." for number in range(32)])
    assert many == ["0.png: empty. The same holds for 1.png, 2.png, 3.png and 28 more."]
    assert together([]) == []
