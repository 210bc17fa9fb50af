import numpy as np
import pytest

from cytoseg.studies.feature_selection.pixels import FeatureSet, choose_both, flipped

LABELS = np.repeat(np.array([0, 1, 2, 255], np.uint8), [700, 200, 20, 80]).reshape(25, 40)
BLOCK1 = ("block1.block1", "block1.block2", "block1.attention", "block1.upsample")


@pytest.mark.parametrize(
    ("features", "text"),
    [
        (FeatureSet(BLOCK1, (0,)), "block 1 at t = 0"),
        (FeatureSet(("block0.block1", "block1.block1"), (0, 50)), "block0.block1, block1.block1 at t = 0, 50"),
        (
            FeatureSet(
                (*(tap.replace("1.", "0.") for tap in BLOCK1), *BLOCK1), (5,), 2, extractors=("ddpm", "filters")
            ),
            "blocks 0, 1 at t = 5 with filters, input enlarged 2 times",
        ),
        (
            FeatureSet(BLOCK1[:2], (5,), extractors=("ddpm", "filters", "pretrained")),
            "block 1 at t = 5 with filters and ImageNet features",
        ),
        (FeatureSet(BLOCK1, (5,), 2, ("pretrained",), noises=3), "ImageNet features"),
        (FeatureSet(BLOCK1, (5,), noises=3, flips=True), "block 1 at t = 5, mean over 3 noises, mean over flips"),
    ],
)
def test_a_set_says_what_is_in_it(features: FeatureSet, text: str) -> None:
    assert features.text() == text


def test_pixels_to_train_on_are_balanced_and_those_to_score_are_as_frequent_as_they_are() -> None:
    chosen = choose_both([LABELS, LABELS], train_px=60, held_out_px=460, seed=0)
    assert [len(xy) for xy in chosen.places] == [520, 520]
    for number in (0, 1):
        mine = chosen.crops == number
        assert chosen.classes[mine & ~chosen.held_out].bincount().tolist() == [20, 20, 20]
        scored = chosen.classes[mine & chosen.held_out].bincount() / 460
        np.testing.assert_allclose(scored, [700 / 920, 200 / 920, 20 / 920], atol=0.04)
    assert chosen.counts == [{0: 700, 1: 200, 2: 20}] * 2
    # The classes are those of the label map at these places.
    x, y = chosen.places[1].T
    np.testing.assert_array_equal(LABELS[y, x], chosen.classes[520:])


def test_a_mirrored_pixel_stays_on_its_cell() -> None:
    picture = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3)
    xy = np.array([[0, 0], [3, 1], [1, 2]])
    for flip in ((False, False), (False, True), (True, False), (True, True)):
        mirrored, places = flipped(picture, xy, flip)
        np.testing.assert_array_equal(mirrored[places[:, 1], places[:, 0]], picture[xy[:, 1], xy[:, 0]])
    assert flipped(picture, xy, (True, False))[1].tolist() == [[0, 2], [3, 1], [1, 0]]
    np.testing.assert_array_equal(flipped(picture, xy, (False, True))[0], np.fliplr(picture))
