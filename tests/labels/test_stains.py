import pytest

from cytoseg.errors import LabelError
from cytoseg.labels.stains import stains_of

PATTERNS = {"pap": ["pap_*", "a1"], "giemsa": ["g?"]}


def test_slides_get_the_stain_whose_pattern_they_fit() -> None:
    assert stains_of(["pap_3", "g2", "a1", "a1", "other", "g22"], PATTERNS) == {
        "pap_3": "pap",
        "a1": "pap",
        "g2": "giemsa",
    }


def test_a_slide_with_brackets_is_named_as_it_is() -> None:
    patterns = {"pap": ["P1 [HE]"], "giemsa": ["P1 H"]}
    assert stains_of(["P1 [HE]", "P1 H"], patterns) == {"P1 [HE]": "pap", "P1 H": "giemsa"}


def test_a_slide_that_fits_two_stains_is_refused() -> None:
    with pytest.raises(LabelError, match="slide g1 matches giemsa and rest"):
        stains_of(["g1"], {**PATTERNS, "rest": ["*1"]})
