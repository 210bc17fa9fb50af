import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.ensemble import RandomForestClassifier

from cytoseg.errors import LabelError
from cytoseg.features.filters import filter_responses
from cytoseg.interpreter import forest as forests
from cytoseg.interpreter.forest import TREES, commonest_class, fit_forest
from cytoseg.metrics.counts import confusion_counts
from cytoseg.metrics.segmentation import iou

COLOURS = np.array([[250, 250, 250], [120, 180, 200], [60, 20, 90]], np.uint8)


@pytest.fixture
def label_map() -> NDArray[np.uint8]:
    """24x24: glass, a cell of 16x16 and in it a nucleus of 8x8."""
    ids = np.zeros((24, 24), np.uint8)
    ids[4:20, 4:20] = 1
    ids[8:16, 8:16] = 2
    return ids


def test_learns_what_colour_tells(label_map: NDArray[np.uint8]) -> None:
    forest = fit_forest([COLOURS[label_map]], [label_map], seed=0)
    turned = label_map[:, ::-1].T
    found = forest.predict(COLOURS[turned])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, turned)


def test_a_large_crop_is_classified_in_bands_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (30, 10, 3)).repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
    ids = (picture[..., 0] > 128).astype(np.uint8)
    forest = fit_forest([picture], [ids], seed=0)
    whole, sizes, taken = forest.predict(picture), [], forests.filter_responses

    def watched(part: NDArray[np.uint8]) -> NDArray[np.float32]:
        sizes.append(part.shape[0])
        return taken(part)

    monkeypatch.setattr(forests, "filter_responses", watched)
    monkeypatch.setattr(forests, "TOGETHER_PX", 100 * 80)
    assert (forest.predict(picture) == whole).mean() > 0.9999  # the responses differ by rounding only
    assert sizes == [166, 206, 106]  # rows 0 to 166, 34 to 240 and 134 to 240: the margins are 66 wide


def test_ignored_pixels_are_never_used_for_training(label_map: NDArray[np.uint8]) -> None:
    without = np.where(label_map == 2, 255, label_map).astype(np.uint8)
    found = fit_forest([COLOURS[label_map]], [without], seed=0).predict(COLOURS[label_map])
    assert set(np.unique(found)) == {0, 1}


def test_draws_so_many_pixels_of_each_crop_or_all_there_are(label_map: NDArray[np.uint8]) -> None:
    few = np.full_like(label_map, 255)
    few[0, :7] = 0
    nothing = np.full_like(label_map, 255)
    pictures = [COLOURS[label_map]] * 3
    forest = fit_forest(pictures, [label_map, few, nothing], pixels_per_crop=50, seed=0)
    assert forest.trees.estimators_[0].tree_.weighted_n_node_samples[0] == 57


def test_classes_are_drawn_as_frequent_as_they_are(label_map: NDArray[np.uint8]) -> None:
    trees = fit_forest([COLOURS[label_map]], [label_map], seed=0).trees.estimators_
    shares = np.mean([tree.tree_.value[0, 0] for tree in trees], axis=0)
    np.testing.assert_allclose(shares, [320 / 576, 192 / 576, 64 / 576], atol=0.01)


def test_trees_that_grow_some_at_a_time_are_those_grown_at_once(label_map: NDArray[np.uint8]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    told: list[int] = []
    found = fit_forest([picture], [label_map], seed=3, on_trees=told.append).trees
    assert told[-1] == TREES == len(found.estimators_)
    assert len(told) == len(set(told)) >= 2
    whole = RandomForestClassifier(n_estimators=TREES, max_features="sqrt", random_state=3)
    rows = filter_responses(picture).reshape(576, -1)
    drawn = np.random.default_rng((3, 0)).permutation(np.arange(576))
    whole.fit(rows[drawn], label_map.ravel()[drawn])
    np.testing.assert_array_equal(found.predict_proba(rows), whole.predict_proba(rows))


def test_threads_that_lose_the_warning_filters_print_nothing(
    label_map: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    grow = RandomForestClassifier.fit

    def warned(self: RandomForestClassifier, *given: NDArray[np.float32]) -> RandomForestClassifier:
        warnings.resetwarnings()  # as one thread of scikit-learn does to the other
        warnings.warn("delayed should be used with Parallel", UserWarning, stacklevel=1)
        return grow(self, *given)

    monkeypatch.setattr(RandomForestClassifier, "fit", warned)
    before = list(warnings.filters)
    forest = fit_forest([COLOURS[label_map]], [label_map], seed=0)
    forest.predict(COLOURS[label_map])
    assert len(recwarn) == 0
    assert list(warnings.filters) == before


def test_same_seed_same_forest(label_map: NDArray[np.uint8]) -> None:
    rng = np.random.default_rng(0)
    picture, other = rng.integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)
    found = [fit_forest([picture], [label_map], pixels_per_crop=60, seed=seed).predict(other) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def test_refuses_crops_without_a_label() -> None:
    ignored = np.full((4, 4), 255, np.uint8)
    with pytest.raises(LabelError, match="no pixel of the 1 training crops is labelled"):
        fit_forest([COLOURS[ignored % 3]], [ignored], seed=0)


def test_refuses_crops_and_maps_of_different_number(label_map: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="shorter"):
        fit_forest([COLOURS[label_map]], [], seed=0)


def test_commonest_class_counts_all_maps_and_no_ignored_pixel() -> None:
    maps = [np.array([[0, 0, 0, 1]], np.uint8), np.array([[1, 1, 1, 255, 255, 255, 255, 255]], np.uint8)]
    assert commonest_class(maps) == 1


def test_smallest_id_of_equally_common_classes() -> None:
    assert commonest_class([np.array([[2, 1]], np.uint8)]) == 1


@pytest.mark.parametrize("maps", [[], [np.full((2, 2), 255, np.uint8)]])
def test_no_class_is_commonest_where_none_is_labelled(maps: list[NDArray[np.uint8]]) -> None:
    with pytest.raises(LabelError, match=f"no pixel of the {len(maps)} training crops is labelled"):
        commonest_class(maps)


@pytest.mark.data
@pytest.mark.slow
def test_real_cells_come_near_the_known_score(cytoseg_data: Path) -> None:
    def read(part: str) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
        paths = sorted((cytoseg_data / "lbc" / part / "images").glob("*.png"))
        masks = [path.parents[1] / "masks" / path.name for path in paths]
        return [np.array(Image.open(p).convert("RGB")) for p in paths], [np.array(Image.open(p)) for p in masks]

    forest = fit_forest(*read("train"), seed=0)
    counts = sum(
        confusion_counts(truth, forest.predict(picture), 3) for picture, truth in zip(*read("test"), strict=True)
    )
    np.testing.assert_allclose(iou(counts), [0.967, 0.963, 0.618], atol=0.02)
