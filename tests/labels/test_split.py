from pathlib import Path

import pytest

from cytoseg.errors import LabelError
from cytoseg.labels.index import LabelledCrop
from cytoseg.labels.split import split_by_slide
from cytoseg.slides.generated_mark import GeneratedMark


def crops(*slides: str) -> list[LabelledCrop]:
    """Two crops of each slide."""
    return [
        LabelledCrop(Path("labels"), f"{slide}_{i}", slide, 4, 4, "x.json", "", "", {}, 0)
        for slide in slides
        for i in range(2)
    ]


def test_named_slides_are_the_test_side() -> None:
    split = split_by_slide(crops("a1", "a2", "b1", "b2"), test_slides=["b*", "a2"], test_fraction=0.0, seed=0)
    assert [crop.crop for crop in split.train] == ["a1_0", "a1_1"]
    assert {crop.slide for crop in split.test} == {"a2", "b1", "b2"}


def test_a_slide_with_brackets_is_named_as_it_is() -> None:
    split = split_by_slide(crops("P1 [HE]", "P1 H", "P2 [HE]"), test_slides=["P1 [HE]"], test_fraction=0.0, seed=0)
    assert {crop.slide for crop in split.test} == {"P1 [HE]"}


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 1), (0.2, 2), (0.25, 3), (0.5, 5)])
def test_chance_takes_the_rounded_share_and_at_least_one(fraction: float, expected: int) -> None:
    labelled = crops(*"abcdefghij")
    split = split_by_slide(labelled, test_slides=(), test_fraction=fraction, seed=3)
    train, test = {crop.slide for crop in split.train}, {crop.slide for crop in split.test}
    assert len(test) == expected
    assert not train & test
    assert len(split.train) + len(split.test) == len(labelled)


def test_the_seed_decides_and_the_order_of_crops_does_not() -> None:
    labelled = crops(*"abcdefghij")

    def drawn(given: list[LabelledCrop], seed: int) -> frozenset[str]:
        return frozenset(c.slide for c in split_by_slide(given, test_slides=(), test_fraction=0.3, seed=seed).test)

    assert drawn(labelled, 1) == drawn(labelled[::-1], 1)
    assert ["".join(sorted(drawn(labelled, seed))) for seed in range(4)] == ["ceg", "ehi", "ach", "agj"]


def test_a_name_that_fits_no_slide_is_refused() -> None:
    with pytest.raises(
        LabelError, match=r"labels\.test_slides: z\*, q: no labelled slide has this name; there are a, b\. Correct it\."
    ):
        split_by_slide(crops("a", "b"), test_slides=["z*", "a", "q"], test_fraction=0.5, seed=0)


def test_an_empty_side_is_refused() -> None:
    with pytest.raises(LabelError, match="the train side of the split is empty: 2 of 2 slides"):
        split_by_slide(crops("a", "b"), test_slides=["*"], test_fraction=0.5, seed=0)
    with pytest.raises(LabelError, match="the test side of the split is empty: 0 of 1 slides"):
        split_by_slide(crops("a"), test_slides=(), test_fraction=0.3, seed=0)


def made(crop: str, slide: str, *, of: str = "", edited: str = "") -> LabelledCrop:
    mark = GeneratedMark("Made by a diffusion model, not a patient's: x.", edited, of)
    return LabelledCrop(Path("labels"), crop, slide, 4, 4, "x.json", "", "", {}, 0, made=mark)


def test_an_image_drawn_from_noise_shows_no_slide() -> None:
    assert crops("a")[0].shown_slide == "a"
    assert made("m", "drawn").shown_slide is None
    assert made("m", "a", edited="a", of="another").shown_slide == "a"


def test_made_crops_are_for_training_and_change_no_draw() -> None:
    labelled = crops(*"abcdefghij")
    alone = split_by_slide(labelled, test_slides=(), test_fraction=0.3, seed=1)
    some = [made(f"m{i}", f"0{i}") for i in range(30)]
    split = split_by_slide([*some, *labelled], test_slides=(), test_fraction=0.3, seed=1)
    assert split.test == alone.test
    assert split.train == (*some, *alone.train)


def test_edits_of_test_slides_are_on_neither_side() -> None:
    test = LabelledCrop(Path("labels"), "t", "b", 4, 4, "x.json", "sha", "", {}, 0)
    leaks = [made("m0", "b"), made("m1", "own", edited="b"), made("m2", "other", of="sha"), made("m3", "c_edited")]
    good = made("m4", "a", edited="a", of="another")
    every = [*crops("a", "c"), test, *leaks, good]
    split = split_by_slide(every, test_slides=["b", "c*"], test_fraction=0.5, seed=0)
    assert [crop.crop for crop in split.train] == ["a_0", "a_1", "m4"]
    assert [crop.crop for crop in split.test] == ["c_0", "c_1", "t"]


def test_made_images_cannot_be_named_as_test_slides() -> None:
    said = r"test slides m\*: m1 was drawn or edited by a diffusion model, and such images are never test crops\. Name"
    with pytest.raises(LabelError, match=said):
        split_by_slide([*crops("a", "b"), made("m1", "m1")], test_slides=["b", "m*"], test_fraction=0.5, seed=0)
    with pytest.raises(LabelError, match="the test side of the split is empty: 0 of 0 slides"):
        split_by_slide([made("m1", "m1"), made("m2", "m2")], test_slides=(), test_fraction=0.5, seed=0)
