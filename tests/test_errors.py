import pytest

from cytoseg.errors import (
    CheckpointError,
    CytosegError,
    LabelError,
    PredictionError,
    RecipeError,
    SlideError,
    report,
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
