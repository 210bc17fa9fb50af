import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cytoseg.features.extract import NativeFeatures
from cytoseg.labels.index import LabelledCrop
from cytoseg.studies.feature_check import Features, draw_clusters, probe_all, verdict, write_check
from cytoseg.studies.probe import draw_probe_pixels

Picture = NDArray[np.uint8]
Extract = Callable[[Picture], NativeFeatures]


def _scores(trained: float, random: float, filters: float) -> dict[str, NDArray[np.float64]]:
    """Three folds; each set has the same folds above and below its mean, and one of two random networks is better."""
    folds = np.array([[-0.1, 0.0, 0.1]])
    uneven = np.array([[0.01, -0.01, 0.0]])
    draws = np.array([[-0.01], [0.01]])
    return {
        "trained": trained + folds + uneven,
        "random": random + folds + draws,
        "filters": filters + folds - uneven,
    }


# Six differences to random weights (0.02, 0, 0.01, 0, -0.02, -0.01 about their mean) have a standard deviation of
# sqrt(0.001 / 5) = 0.0141, the three to filters (0.02, -0.02, 0) one of 0.02.
@pytest.mark.parametrize(
    ("trained", "random", "filters", "begin"),
    [
        (
            0.80,
            0.70,
            0.75,
            "Go. The trained features reach mean IoU 0.800, more than 0.700 with random weights (+0.100",
        ),
        (0.80, 0.70, 0.815, "Go. "),  # within the spread of 0.02
        (0.80, 0.70, 0.825, "Go, but add the filters (features.extractors: [ddpm, filters]). "),
        (0.715, 0.70, 0.60, "Go. "),
        (0.713, 0.70, 0.60, "No go: train longer. "),
        (
            0.70,
            0.70,
            0.90,
            "No go: train longer. The trained features reach mean IoU 0.700, not clearly more than 0.700",
        ),
        (0.60, 0.70, 0.50, "No go: train longer. "),
    ],
)
def test_the_verdict_weighs_differences_against_their_spread(
    trained: float, random: float, filters: float, begin: str
) -> None:
    assert verdict(_scores(trained, random, filters)).startswith(begin)


def test_a_base_model_that_does_not_suit_is_not_to_be_trained_longer() -> None:
    text = verdict(_scores(0.70, 0.70, 0.90), base="cytology-base")
    assert text.startswith(
        "No go: cytology-base does not suit these crops. Check slides.mpp and features.scale. If they are right, use "
        "filters alone (features.extractors: [filters]), or train your own diffusion model: remove training.init, then "
        "run `cytoseg train-ddpm`. The trained features reach mean IoU 0.700, not clearly more than 0.700"
    )
    assert verdict(_scores(0.80, 0.70, 0.75), base="cytology-base") == verdict(_scores(0.80, 0.70, 0.75))


def test_the_verdict_names_the_spreads() -> None:
    assert verdict(_scores(0.8, 0.7, 0.9)).endswith(
        "more than 0.700 with random weights (+0.100, spread 0.014), yet less than 0.900 with image filters "
        "(-0.100, spread 0.020)."
    )
    assert verdict(_scores(0.8, 0.7, 0.815)).endswith(
        "and not clearly less than 0.815 with image filters (-0.015, spread 0.020)."
    )
    assert verdict(_scores(0.8, 0.7, 0.6)).endswith("and than 0.600 with image filters (+0.200, spread 0.020).")


def test_folds_that_are_hard_for_all_do_not_hide_a_difference() -> None:
    scores = _scores(0.78, 0.7, 0.7)
    assert scores["trained"].std(ddof=1) > 0.08
    assert verdict(scores).startswith("Go. ")


@pytest.fixture
def crops(write: Callable[..., LabelledCrop], label_map: Picture) -> list[LabelledCrop]:
    return [write(f"{slide}_0", slide, np.roll(label_map, i, axis=1)) for i, slide in enumerate("abc")]


def test_telling_features_beat_noise_and_noise_does_not(
    crops: list[LabelledCrop], telling: Extract, noise: Callable[[int], Extract]
) -> None:
    pixels = draw_probe_pixels(crops, seed=0)
    told = list[int]()
    good = Features(telling, (noise(0), noise(1)), noise(2))
    scores = probe_all(good, pixels, classes=3, on_crop=lambda: told.append(1))
    assert {key: found.shape for key, found in scores.items()} == {
        "trained": (1, 3),
        "random": (2, 3),
        "filters": (1, 3),
    }
    assert len(told) == good.readings(pictures=0, crops=3) == 12
    assert verdict(scores).startswith("Go. The trained features reach mean IoU 1.000")
    bad = Features(noise(2), (noise(0), noise(1)), telling)
    assert verdict(probe_all(bad, pixels, classes=3, on_crop=lambda: None)).startswith("No go: train longer. ")
    half = probe_all(Features(telling, (noise(0),), telling), pixels, classes=3, on_crop=lambda: None)
    np.testing.assert_array_equal(half["trained"], half["filters"])


def test_table_and_verdict_are_written(tmp_path: Path, crops: list[LabelledCrop]) -> None:
    scores = _scores(0.8, 0.7, 0.75)
    text = write_check(tmp_path / "check", Figure(), scores, pixels=draw_probe_pixels(crops, seed=0))
    assert (tmp_path / "check" / "check.md").read_text() == text
    assert "| trained | 0.800 | 0.095 | 0.710 | 0.900 |" in text
    assert "| random weights | 0.700 | 0.090 | 0.590 | 0.810 |" in text
    assert "600 labelled pixels of 3 train crops, 3 folds over slides" in text
    assert verdict(scores) in text
    with (tmp_path / "check" / "check.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 + 6 + 3
    assert rows[4] == {"features": "random", "network": "0", "fold": "1", "mean_iou": "0.690000"}


def test_without_labels_there_is_no_verdict(tmp_path: Path) -> None:
    text = write_check(tmp_path, Figure(), {}, pixels=None, why_not="there are no labels yet.")
    assert text.startswith("No verdict: there are no labels yet. Look at check.png")
    assert (tmp_path / "check.csv").read_text(encoding="utf-8-sig") == "features,network,fold,mean_iou\n"


def test_the_picture_is_drawn(tmp_path: Path, telling: Extract, noise: Callable[[int], Extract]) -> None:
    pictures = [np.full((16, 16, 3), 100, np.uint8), np.zeros((8, 20, 3), np.uint8)]
    told = list[int]()
    features = Features(telling, (noise(0), noise(1)), noise(2))
    figure = draw_clusters(features, pictures, seed=0, on_crop=lambda: told.append(1))
    assert len(told) == features.readings(pictures=2, crops=0) == 12
    titles = [panel.get_title() for panel in figure.axes[:4]]
    assert titles == ["image", "trained", "random weights", "image filters"]
    write_check(tmp_path, figure, {}, pixels=None)
    with Image.open(tmp_path / "check.png") as picture:
        assert picture.size == (1248, 696)
