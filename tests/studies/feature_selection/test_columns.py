"""The column store against directly computed features, with real and synthetic networks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cytoseg.diffusion.architecture import Architecture, tap_names
from cytoseg.diffusion.unet import build_unet
from cytoseg.features.extract import FeatureExtractor, gather, to_input
from cytoseg.features.settings import EXTRACTORS, FeatureSettings
from cytoseg.studies.feature_selection.columns import ColumnStore
from cytoseg.studies.feature_selection.pixels import ChosenPixels, FeatureSet, choose_both
from cytoseg.studies.feature_selection.settings import Question

Ask = Callable[..., Question]
TINY = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", objective="pred_noise")
TAPS = tap_names(TINY)


@pytest.fixture
def pixels(made_question: Ask) -> ChosenPixels:
    return choose_both([c.label_map() for c in made_question().crops], train_px=9, held_out_px=7, seed=0)


@pytest.fixture
def network() -> Callable[[FeatureSettings], FeatureExtractor]:
    unet = build_unet(TINY, seed=1).eval()
    return lambda settings: FeatureExtractor(unet, TINY, settings, device=torch.device("cpu"))


def _store(question: Question, pixels: ChosenPixels, extractor_of: Any, taps: tuple[str, ...] = TAPS) -> ColumnStore:
    base = FeatureSet(taps, question.timesteps)
    return ColumnStore(question.crops, pixels, base, extractor_of=extractor_of, noise_seed=4, memory_bytes=10**6)


@pytest.mark.parametrize(
    "features", [FeatureSet(TAPS[2:5], (1, 5), extractors=EXTRACTORS), FeatureSet(TAPS[:1], (5,), scale=2)]
)
def test_the_columns_are_the_features_of_the_pixels(
    made_question: Ask, pixels: ChosenPixels, network: Any, features: FeatureSet
) -> None:
    question = made_question()
    (view,) = _store(question, pixels, network).views(features)
    found = torch.cat([column for (column,) in view], dim=1)
    extractor = network(FeatureSettings(features.taps, features.timesteps, features.scale, 4, features.extractors))
    stacks = [
        gather(extractor(to_input(c.picture()[None])), xy) for c, xy in zip(question.crops, pixels.places, strict=True)
    ]
    torch.testing.assert_close(found, torch.cat(stacks).half(), atol=2e-3, rtol=2e-3)


def test_each_run_over_the_crops_is_made_once(
    made_question: Ask, pixels: ChosenPixels, extractor_of: Any, calls: list[FeatureSettings]
) -> None:
    question = made_question()
    store = _store(question, pixels, extractor_of, question.taps)
    for features in (
        FeatureSet(("block1.block1",), (5,)),
        FeatureSet(("block0.block1",), (5,)),  # another tap of the same run
        FeatureSet(question.taps, (1, 5)),
        FeatureSet(question.taps, (1, 5), extractors=("ddpm", "filters")),
        FeatureSet(("block1.block1",), (1,), extractors=("ddpm", "filters")),
    ):
        store.views(features)
    assert [(s.timesteps, s.extractors) for s in calls[::4]] == [
        ((5,), ("ddpm",)),
        ((1,), ("ddpm",)),
        ((0,), ("filters",)),
    ]
    assert len(calls) == 12


def test_noises_and_flips_are_runs_of_their_own(
    made_question: Ask, pixels: ChosenPixels, extractor_of: Any, calls: list[FeatureSettings]
) -> None:
    question = made_question()
    store = _store(question, pixels, extractor_of, question.taps)
    (view,) = store.views(FeatureSet(("block1.block1",), (5,), noises=3))
    assert [s.noise_seed for s in calls[::4]] == [4, 5, 6]
    first, second, third = view[0]
    # The made extractor adds its seed.
    torch.testing.assert_close(second - first, torch.ones_like(first), atol=0.01, rtol=0)
    torch.testing.assert_close(third - first, 2 * torch.ones_like(first), atol=0.01, rtol=0)
    views = store.views(FeatureSet(("block1.block1",), (5,), flips=True))
    assert len(calls) == 4 * (3 + 3)
    # It reads single pixels, which look the same in every mirror image.
    for view in views:
        torch.testing.assert_close(view[0][0], first, atol=0, rtol=0)


def test_time_and_memory_are_reported_before_they_are_spent(
    made_question: Ask, pixels: ChosenPixels, extractor_of: Any
) -> None:
    question = made_question()
    store = _store(question, pixels, extractor_of, question.taps)
    one = FeatureSet(("block1.block1",), (5,))
    assert store.seconds_to_compute(one) == 0  # nothing is known yet
    store.views(one)
    assert store.seconds_to_compute(one) == 0 < store.seconds_per_crop(one)
    crop_s = store.seconds_per_crop(one)
    flips = FeatureSet(("block1.block1",), (5,), flips=True)
    assert store.seconds_per_crop(flips) == pytest.approx(4 * crop_s)
    assert store.seconds_to_compute(flips) == pytest.approx(3 * crop_s * 4)  # of four crops, one view is there
    larger = FeatureSet(("block1.block1",), (1, 5), scale=2)
    assert store.seconds_per_crop(larger) == pytest.approx(2 * 4 * crop_s)
    joined = FeatureSet(("block1.block1",), (5,), extractors=("ddpm", "filters"))
    assert store.seconds_per_crop(joined) == crop_s  # filters are not measured yet
    # 4 crops of 16 pixels with two bytes, and the 9 of each crop that are joined to train on.
    exactly = ColumnStore(
        question.crops,
        pixels,
        FeatureSet(question.taps, (1, 5)),
        extractor_of=extractor_of,
        noise_seed=4,
        memory_bytes=2 * 4 * (16 + 9),
    )
    assert exactly.fits(one)
    assert not exactly.fits(FeatureSet(question.taps, (5,)))
    assert not exactly.fits(flips)


def test_what_a_set_does_not_need_is_forgotten_when_memory_ends(
    made_question: Ask, pixels: ChosenPixels, extractor_of: Any, calls: list[FeatureSettings]
) -> None:
    question = made_question()
    base = FeatureSet(question.taps, (1, 5))
    store = ColumnStore(
        question.crops, pixels, base, extractor_of=extractor_of, noise_seed=4, memory_bytes=2 * 4 * (4 * 16 + 9)
    )
    one = FeatureSet(("block1.block1",), (5,))
    first = store.views(base)
    store.views(FeatureSet(("block1.block1",), (5,), scale=2))
    assert len(calls) == 4 * 2
    again = store.views(base)
    assert len(calls) == 4 * 3
    np.testing.assert_array_equal(again[0][0][0], first[0][0][0])
    assert store.seconds_to_compute(one) == 0
