import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import DataLoader

from cytoseg.errors import SlideError
from cytoseg.geometry import Region
from cytoseg.slides import crops
from cytoseg.slides.crops import OpenSlides, RandSlideCropd, SlideCrops, augmentation
from cytoseg.slides.settings import CropsSection
from cytoseg.slides.tissue_sources import SlideSource

Write = Callable[..., Path]
Find = Callable[..., list[SlideSource]]


def _regions(sources: list[SlideSource], count: int) -> list[tuple[str, Region]]:
    transform = RandSlideCropd(["image"], sources=sources, size_px=16)
    transform.set_random_state(seed=0)
    drawn = []
    for _ in range(count):
        transform.randomize()
        drawn.append((transform.source.path.name, transform.region))
    return drawn


def _crops(sources: list[SlideSource], *, first: int = 0, last: int = 12, seed: int = 7) -> SlideCrops:
    steps: list[Callable[..., Any]] = [
        RandSlideCropd(["image"], sources=sources, size_px=16),
        *augmentation(CropsSection(flips=True, turns=True, jitter=0.2)),
    ]
    return SlideCrops(steps, seed=seed, first=first, last=last)


def test_crop_i_is_the_same_in_any_order(write_map: Write, find: Find) -> None:
    sources = find(write_map("a.png"), write_map("b.png"))
    forwards, backwards = _crops(sources), _crops(sources)
    there = [forwards[i] for i in range(12)]
    back = [backwards[i] for i in reversed(range(12))][::-1]
    assert torch.equal(torch.stack(there), torch.stack(back))
    assert torch.equal(forwards[3], there[3])
    assert len({crop.numpy().tobytes() for crop in there}) == 12
    assert not torch.equal(_crops(sources, seed=8)[0], there[0])


def test_crops_go_on_where_they_stopped(write_map: Write, find: Find) -> None:
    sources = find(write_map())
    whole, rest = _crops(sources), _crops(sources, first=5)
    assert (len(whole), len(rest)) == (12, 7)
    assert all(torch.equal(rest[i], whole[5 + i]) for i in range(7))


def test_workers_do_not_change_the_crops(write_map: Write, find: Find) -> None:
    data = _crops(find(write_map("a.png"), write_map("b.png")))
    alone, helped = (torch.cat(list(DataLoader(data, batch_size=4, num_workers=n))) for n in (0, 2))
    assert alone.shape == (12, 3, 16, 16)
    assert torch.equal(helped, alone)


def test_a_pickled_data_set_gives_the_same_crops(write_map: Write, find: Find) -> None:
    data = _crops(find(write_map()))
    first = data[0]
    assert torch.equal(pickle.loads(pickle.dumps(data))[0], first)


def test_a_crop_holds_the_pixels_of_its_region(write_map: Write, find: Find) -> None:
    transform = RandSlideCropd(["image"], sources=find(write_map()), size_px=16)
    transform.set_random_state(seed=3)
    crop = transform({"image": 0, "kept": "as it is"})
    x, y = transform.region.x, transform.region.y
    assert (transform.region.width, transform.region.height) == (16, 16)
    assert crop["kept"] == "as it is"
    assert crop["image"].dtype == torch.uint8
    assert crop["image"][0].tolist() == [list(range(x, x + 16))] * 16
    assert crop["image"][1, :, 0].tolist() == list(range(y, y + 16))


def test_crops_at_another_mpp_span_more_pixels(write_map: Write, find: Find) -> None:
    transform = RandSlideCropd(["image"], sources=find(write_map(), mpp=0.5, assume_mpp=0.25), size_px=16)
    transform.set_random_state(seed=3)
    red = transform({"image": 0})["image"][0].float()
    assert (transform.region.width, transform.region.height) == (32, 32)
    assert red.shape == (16, 16)
    # Two pixels x and x + 1 become one: their mean, up or down by a half when rounded.
    expected = transform.region.x + 0.5 + 2 * torch.arange(16.0)
    torch.testing.assert_close(red, expected.expand(16, 16), rtol=0, atol=0.5)


@pytest.mark.parametrize("rule", ["otsu", "threshold"])
def test_crops_are_centred_on_cells(write_glass: Write, find: Find, rule: str) -> None:
    dark = Region(70, 20, 24, 40)
    centres = [(r.x + 8, r.y + 8) for _, r in _regions(find(write_glass(dark=dark), rule=rule), 300)]
    # Otsu smooths, so its cells reach a pixel further.
    assert all(69 <= x <= 95 and 19 <= y <= 61 for x, y in centres)
    xs, ys = zip(*centres, strict=True)
    assert max(xs) - min(xs) > 20
    assert max(ys) - min(ys) > 35


def test_crops_at_the_edge_are_moved_inside(write_glass: Write, find: Find) -> None:
    sources = find(write_glass(dark=Region(118, 0, 10, 4)), rule="threshold")
    regions = [r for _, r in _regions(sources, 100)]
    assert {r.y for r in regions} == {0}
    assert {r.x for r in regions} == {110, 111, 112}
    assert all((r.width, r.height) == (16, 16) for r in regions)


def test_a_slide_of_one_crop_gives_that_crop(write_map: Write, find: Find) -> None:
    sources = find(write_map(width=16, height=16))
    assert {r for _, r in _regions(sources, 10)} == {Region(0, 0, 16, 16)}


def test_slides_are_drawn_by_their_tissue(write_glass: Write, find: Find) -> None:
    small = write_glass("small.png", dark=Region(0, 0, 32, 32))
    large = write_glass("large.png", dark=Region(0, 0, 64, 48))
    bare = write_glass("bare.png")
    sources = find(small, large, bare, rule="threshold")
    assert [(s.path.name, s.weight) for s in sources] == [("small.png", 4.0), ("large.png", 12.0)]
    names = [name for name, _ in _regions(sources, 1000)]
    assert names.count("large.png") == pytest.approx(750, abs=50)


def test_the_digest_tells_what_the_crops_are_a_function_of(write_map: Write, find: Find) -> None:
    def digest(*paths: Path) -> str:
        return RandSlideCropd(["image"], sources=find(*paths), size_px=16).digest()

    a, b, tall = write_map("a.png"), write_map("b.png"), write_map("tall.png", height=200)
    assert digest(a, b) == digest(a, b)
    assert len({digest(a), digest(b), digest(tall), digest(a, b), digest(b, a)}) == 5


def _augmented(pixels: Tensor, count: int, **options: Any) -> list[Tensor]:
    transform = Compose(augmentation(CropsSection(**({"flips": False, "turns": False} | options))))
    results = []
    for seed in range(count):
        transform.set_random_state(seed=seed)
        results.append(transform({"image": pixels.clone()})["image"])
    return results


def test_without_augmentation_pixels_are_only_scaled() -> None:
    (scaled,) = _augmented(torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1), 1)
    assert type(scaled) is Tensor
    torch.testing.assert_close(scaled, torch.tensor([-1.0, -0.6, 1.0]).reshape(3, 1, 1))


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        ({"flips": True}, 4),  # as it is, left-right, up-down, both
        ({"turns": True}, 4),
        ({"flips": True, "turns": True}, 8),
    ],
)
def test_flips_and_turns_reach_every_symmetry(options: dict[str, bool], ways: int) -> None:
    corners = torch.tensor([[10, 20], [30, 40]], dtype=torch.uint8).expand(3, 2, 2)
    seen = _augmented(corners, 150, **options)
    assert len({crop.numpy().tobytes() for crop in seen}) == ways
    for crop in seen:
        torch.testing.assert_close(crop.flatten(1).sort(dim=1).values, seen[0].flatten(1).sort(dim=1).values)


def test_jitter_changes_channels_apart_and_stays_in_range() -> None:
    seen = torch.stack(_augmented(torch.tensor([128, 128, 255], dtype=torch.uint8).reshape(3, 1, 1), 100, jitter=0.1))
    assert seen.dtype == torch.float32
    assert seen.max() == 1.0
    assert (seen[:, 0] != seen[:, 1]).any()
    # 128 becomes at most 128 * 1.1 + 12.75 and at least 128 * 0.9 - 12.75; scaled to [-1, 1].
    assert seen[:, 0].max() <= (128 * 1.1 + 12.75) / 127.5 - 1
    assert seen[:, 0].min() >= (128 * 0.9 - 12.75) / 127.5 - 1
    assert seen[:, 0].max() - seen[:, 0].min() > 0.2


def test_only_the_most_recent_slides_stay_open(write_map: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "_MAX_OPEN", 2)
    a, b, c = (write_map(f"{name}.png") for name in "abc")
    slides = OpenSlides()
    first, second = slides.get(a), slides.get(b)
    assert slides.get(a) is first
    slides.get(c)
    assert slides.get(a) is first
    assert slides.get(b) is not second
    slides.close()


def test_closed_slides_are_opened_again_when_needed(write_map: Write, find: Find) -> None:
    transform = RandSlideCropd(["image"], sources=find(write_map()), size_px=16)
    transform.set_random_state(seed=0)
    first = transform({})["image"]
    transform.close()
    transform.set_random_state(seed=0)
    assert torch.equal(transform({})["image"], first)
    transform.close()


def test_another_process_opens_slides_again(write_map: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path, slides = write_map(), OpenSlides()
    parents = slides.get(path)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert slides.get(path) is not parents
    assert pickle.loads(pickle.dumps(slides)).get(path).path == path
    slides.close()
    parents.close()


@pytest.fixture
def two_of_which_one_is_lost(write_map: Write, find: Find) -> list[SlideSource]:
    """Two slides, the second of which is removed after it was looked at."""
    paths = (write_map("a.png"), write_map("b.png"))
    sources = find(*paths)
    paths[1].unlink()
    return sources


def test_a_lost_slide_stops_unless_told_otherwise(two_of_which_one_is_lost: list[SlideSource]) -> None:
    transform = RandSlideCropd(["image"], sources=two_of_which_one_is_lost, size_px=16)
    with pytest.raises(SlideError, match=r"b\.png"):
        [transform({}) for _ in range(30)]


def test_a_lost_slide_is_named_once_and_skipped(two_of_which_one_is_lost: list[SlideSource]) -> None:
    told = list[str]()
    transform = RandSlideCropd(["image"], sources=two_of_which_one_is_lost, size_px=16, on_lost=told.append)
    for _ in range(30):
        assert transform({})["image"].shape == (3, 16, 16)
        assert transform.source.path.name == "a.png"
    assert len(told) == 1
    assert "b.png" in told[0]
    assert told[0].endswith("Continuing without it: 1 of 2 slides are lost.")


def test_when_all_slides_are_lost_the_last_one_is_named(two_of_which_one_is_lost: list[SlideSource]) -> None:
    two_of_which_one_is_lost[0].path.unlink()
    told = list[str]()
    transform = RandSlideCropd(["image"], sources=two_of_which_one_is_lost, size_px=16, on_lost=told.append)
    with pytest.raises(SlideError, match=r"[ab]\.png"):
        transform({})
    assert len(told) == 1


def test_larger_crops_come_from_the_slides_that_are_large_enough(write_map: Write, find: Find) -> None:
    sources = find(write_map("wide.png"), write_map("small.png", width=20, height=20))
    transform = RandSlideCropd(["image"], sources=sources, size_px=16)
    large = transform.larger(40)
    for _ in range(10):
        crop = large({})["image"]
        assert crop.shape == (3, 40, 40)
        assert crop[0, 0].tolist() == list(range(large.region.x, large.region.x + 40))
        assert large.source.path.name == "wide.png"
    assert transform.larger(49)({})["image"].shape == (3, 16, 16)  # no slide has 49 pixels
    assert transform.larger(8)({})["image"].shape == (3, 16, 16)


def test_larger_crops_keep_their_scale(write_map: Write, find: Find) -> None:
    sources = find(write_map(), mpp=1.0, assume_mpp=0.5)
    large = RandSlideCropd(["image"], sources=sources, size_px=16).larger(24)
    assert large({})["image"].shape == (3, 24, 24)
    assert (large.region.width, large.region.height) == (48, 48)


def test_crops_of_another_size_come_from_the_slides_that_hold_them(write_map: Write, find: Find) -> None:
    small, large = write_map("a.png", width=20, height=40), write_map("b.png", width=64, height=48)
    crop = RandSlideCropd(["image"], sources=find(small, large, mpp=1.0, assume_mpp=0.5, size_px=8), size_px=8)
    for wanted, given, side in ((16, 16, 32), (4, 4, 8), (100, 24, 48)):
        other = crop.of_size(wanted)
        other.set_random_state(seed=0)
        assert other({"image": 0})["image"].shape == (3, given, given)
        assert (other.size_px, other.region.width) == (given, side)
        assert (other.source.path == large) or side <= 20
        other.close()
    crop.close()


def test_fitted_crops_come_from_every_slide_as_large_as_it_allows(write_map: Write, find: Find) -> None:
    small, large = write_map("a.png", width=20, height=40), write_map("b.png", width=64, height=48)
    crop = RandSlideCropd(["image"], sources=find(small, large, mpp=1.0, assume_mpp=0.5, size_px=8), size_px=8)
    fitted = crop.fitted(16)
    assert (crop.sides_px, fitted.sides_px, fitted.size_px) == ((8, 8), (10, 16), 16)
    found = {}
    for number in range(20):
        fitted.set_random_state(seed=number)
        shape = fitted({"image": number})["image"].shape
        assert found.setdefault(fitted.source.path, (shape, fitted.region.width)) == (shape, fitted.region.width)
    assert found == {small: ((3, 10, 10), 20), large: ((3, 16, 16), 32)}
    crop.close()
    fitted.close()
