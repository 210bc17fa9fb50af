import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cytoseg.active_learning import candidates
from cytoseg.active_learning.candidates import Frame, Predicted, cached_candidates, find_candidates
from cytoseg.errors import PredictionError, SlideError
from cytoseg.geometry import Region, Size
from cytoseg.maps.map_file import MapFile
from cytoseg.predict import finished_maps
from cytoseg.predict.candidate_regions import appearance_of, highest_tenth
from cytoseg.predict.summary import SlideSummary
from cytoseg.slides.pyramid import write_pyramid
from cytoseg.slides.settings import SlidesSection
from tests.predict.made import predicted

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]
FRAME = Frame(8, SlidesSection())


@pytest.fixture
def maps() -> Arrays:
    """Picture, ids and nats of 44x20 px: five columns of 8 px and a last one of 4, two rows and a last one of 4."""
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 256, (20, 44, 3), dtype=np.uint8)
    ids = rng.integers(0, 3, (20, 44)).astype(np.uint8)
    nats = (rng.random((20, 44)) * 0.6).astype(np.float32)
    return picture, ids, nats


def _source(tmp_path: Path, maps: Arrays, name: str = "smear") -> Predicted:
    picture, ids, nats = maps
    slide = tmp_path / "slides" / f"{name}.png"
    folder = predicted(tmp_path / "predictions", slide, picture=picture, ids=ids, nats=nats, classes="gcn")
    return Predicted(name, folder, slide)


@pytest.mark.parametrize("block_px", [8, 17, 2048])
def test_regions_of_the_grid_are_scored_whatever_the_blocks(
    tmp_path: Path,
    maps: Arrays,
    monkeypatch: pytest.MonkeyPatch,
    block_px: int,
) -> None:
    monkeypatch.setattr(candidates, "BLOCK_PX", block_px)
    monkeypatch.setattr(candidates, "COARSE_PX", 8)
    sides: list[int] = []
    read = MapFile.read

    def noted(self: MapFile, x: int, y: int, *, width: int, height: int, outside: int = 0) -> NDArray[np.generic]:
        sides.append(max(width, height))
        return read(self, x, y, width=width, height=height, outside=outside)

    monkeypatch.setattr(MapFile, "read", noted)
    picture, ids, nats = maps
    nats[8:16, 8:16] = 0  # nothing is disputed here
    ids[0:4, 0:8] = 255
    parts: list[tuple[int, int]] = []
    found = find_candidates(
        _source(tmp_path, maps), FRAME, classes=3, on_part=lambda done, total: parts.append((done, total))
    )
    # By hand: each region cut out of the arrays; the last column and row are moved inside.
    nats[0:4, 0:8] = 0
    expected = {
        (x, y): highest_tenth(nats[y : y + 8, x : x + 8])
        for y in (0, 8, 12)
        for x in (0, 8, 16, 24, 32, 36)
        if (x, y) != (8, 8)
    }
    assert {(c.region.x, c.region.y): c.score for c in found} == pytest.approx(expected, abs=1e-6)
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    assert len({c.usual for c in found}) == 1
    middle = sorted(expected.values())[len(expected) // 2]  # of 17
    assert found[0].usual == pytest.approx(middle, abs=0.0006)
    first = next(c for c in found if (c.region.x, c.region.y) == (36, 12))
    assert first.region == Region(36, 12, 8, 8)
    assert first.appearance == appearance_of(picture[12:20, 36:44], ids[12:20, 36:44], classes=3)
    assert parts[-1] == (len(parts), len(parts))
    assert max(sides) <= block_px


def test_only_the_most_disputed_are_kept(
    tmp_path: Path,
    maps: Arrays,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = _source(tmp_path, maps)
    everything = find_candidates(source, FRAME, classes=3)
    monkeypatch.setattr(candidates, "MAX_CANDIDATES", 4)
    assert find_candidates(source, FRAME, classes=3) == everything[:4]


def test_regions_lie_on_the_slide_at_its_own_resolution(tmp_path: Path, maps: Arrays) -> None:
    picture, ids, nats = maps
    picture = picture.repeat(2, axis=0).repeat(2, axis=1)
    nats = nats * 0
    nats[12:16, 40:44] = 0.5
    source = _source(tmp_path, (picture, ids, nats))
    frame = Frame(8, SlidesSection(mpp=0.5, assume_mpp=0.25))
    found = find_candidates(source, frame, classes=3)
    assert [c.region for c in found] == [Region(72, 16, 16, 16), Region(72, 24, 16, 16)]


def test_a_slide_smaller_than_a_region_is_one_region(tmp_path: Path, maps: Arrays) -> None:
    picture, ids, nats = maps
    source = _source(tmp_path, (picture[:5, :6], ids[:5, :6], nats[:5, :6]))
    (only,) = find_candidates(source, FRAME, classes=3)
    whole = np.zeros((8, 8), np.float32)
    whole[:5, :6] = nats[:5, :6]
    assert (only.region, only.score) == (Region(0, 0, 8, 8), pytest.approx(highest_tenth(whole), abs=1e-6))


def test_near_empty_glass_is_left_out(tmp_path: Path, maps: Arrays) -> None:
    picture, ids, nats = maps
    everything = find_candidates(_source(tmp_path, (picture, ids, nats)), FRAME, classes=3)
    bare = picture.copy()
    bare[:8] = 240
    found = find_candidates(_source(tmp_path, (bare, ids, nats)), FRAME, classes=3)
    assert {c.region for c in found} == {c.region for c in everything if c.region.y >= 8}


def test_a_slide_without_disagreement_has_no_candidates(tmp_path: Path, maps: Arrays) -> None:
    assert find_candidates(_source(tmp_path, (maps[0], maps[1], maps[2] * 0)), FRAME, classes=3) == []


def test_maps_that_do_not_belong_together_are_refused(tmp_path: Path, maps: Arrays) -> None:
    source = _source(tmp_path, (maps[0], maps[1][:16], maps[2]))
    with pytest.raises(PredictionError, match=r"smear: its maps differ in size\. Predict the slide again\."):
        find_candidates(source, FRAME, classes=3)


def test_a_slide_that_does_not_say_its_mpp_is_refused(tmp_path: Path, maps: Arrays) -> None:
    with pytest.raises(SlideError, match="does not state its micrometres per pixel"):
        find_candidates(_source(tmp_path, maps), Frame(8, SlidesSection(mpp=0.5)), classes=3)


@pytest.fixture
def source(tmp_path: Path) -> Predicted:
    """A slide of 24x16 px, disputed everywhere."""
    rng = np.random.default_rng(0)
    folder = predicted(
        tmp_path / "predictions",
        tmp_path / "smear.png",
        picture=rng.integers(0, 256, (16, 24, 3), dtype=np.uint8),
        ids=rng.integers(0, 2, (16, 24)).astype(np.uint8),
        nats=rng.random((16, 24)).astype(np.float32),
        classes="gc",
    )
    return Predicted("smear", folder, tmp_path / "smear.png")


def _scan(source: Predicted, frame: Frame = FRAME) -> tuple[object, int]:
    """Give the candidates, and how many parts of the maps were read for them."""
    parts: list[int] = []
    folder = source.folder.parents[1] / "scans"
    return cached_candidates(
        source, frame, classes=2, folder=folder, on_part=lambda done, _total: parts.append(done)
    ), len(parts)


def test_what_was_found_before_is_read_back(source: Predicted) -> None:
    wanted = find_candidates(source, FRAME, classes=2)
    assert len(wanted) == 6
    assert _scan(source) == (wanted, 1)
    assert _scan(source) == (wanted, 0)


def test_another_prediction_or_size_is_searched_again(source: Predicted) -> None:
    _scan(source)
    assert _scan(source, Frame(4, SlidesSection()))[1] == 1
    (source.folder / "summary.json").write_text("{}")
    assert _scan(source)[1] == 1


@pytest.mark.parametrize("name", ["class_map", "uncertainty"])
def test_a_replaced_map_is_searched_again_or_refused(source: Predicted, name: str) -> None:
    wanted, _ = _scan(source)
    dtype = {"class_map": np.uint8, "uncertainty": np.float32}[name]

    def replace(width: int) -> None:
        path = source.folder / f"{name}.ome.tif"
        pixels = np.ones((16, width), dtype)
        write_pyramid(path, [pixels], size=Size(width, 16), mpp=None, categorical=name == "class_map")

    replace(24)
    found, parts = _scan(source)
    assert parts == 1
    assert found != wanted
    replace(32)
    with pytest.raises(PredictionError, match=r"^smear: its maps differ in size\. Predict the slide again\.$"):
        _scan(source)


def test_a_replaced_slide_is_searched_again(source: Predicted) -> None:
    wanted, _ = _scan(source)
    Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(source.slide)
    found, parts = _scan(source)
    assert parts == 1
    assert found != wanted


def test_a_slide_that_is_predicted_again_meanwhile_is_refused(
    source: Predicted, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = finished_maps.summary_of

    def predicted_again(folder: Path) -> SlideSummary:
        (folder / "summary.json").write_text(json.dumps({"classes": {"other": {}}}))
        return read(folder)

    monkeypatch.setattr(finished_maps, "summary_of", predicted_again)
    with pytest.raises(PredictionError, match=r"^smear: was predicted again meanwhile\. Run the command again\.$"):
        find_candidates(source, FRAME, classes=2)


def test_maps_of_another_size_than_was_predicted_are_refused(source: Predicted) -> None:
    summary = json.loads((source.folder / "summary.json").read_text())
    (source.folder / "summary.json").write_text(json.dumps(summary | {"size": [24, 16]}))
    assert _scan(source)[0]
    (source.folder / "summary.json").write_text(json.dumps(summary | {"size": [48, 32]}))
    with pytest.raises(PredictionError, match=r"^smear: its maps have another size than was predicted\."):
        _scan(source)


@pytest.mark.parametrize("content", ["{", "[]", '{"key": 1}'])
def test_a_damaged_file_is_rewritten(source: Predicted, content: str) -> None:
    wanted, _ = _scan(source)
    path = source.folder.parents[1] / "scans" / "smear.json"
    path.write_text(content)
    assert _scan(source) == (wanted, 1)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"candidates": [{"region": [1, 2]}]}))
    assert _scan(source) == (wanted, 1)


def test_a_file_of_another_format_is_rewritten(source: Predicted, monkeypatch: pytest.MonkeyPatch) -> None:
    _scan(source)
    monkeypatch.setattr(candidates, "SCAN_FORMAT", candidates.SCAN_FORMAT + 1)
    assert _scan(source)[1] == 1


def test_where_nothing_can_be_written_the_candidates_are_found_each_time(source: Predicted) -> None:
    wanted = find_candidates(source, FRAME, classes=2)
    (source.folder.parents[1] / "scans").write_text("a file where the folder should be")
    assert _scan(source) == (wanted, 1)
    assert _scan(source) == (wanted, 1)
