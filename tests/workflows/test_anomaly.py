import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from cytoseg.anomaly.outputs import ANOMALY
from cytoseg.anomaly.regions import RegionList, read_list
from cytoseg.anomaly.scores import SHAPE, TEXTURE
from cytoseg.anomaly.thresholds import THRESHOLDS
from cytoseg.errors import PredictionError, SlideError
from cytoseg.interpreter.bundle import EnsemblePredictor
from cytoseg.maps.map_file import MapFile
from cytoseg.predict.slide import OnProgress
from cytoseg.recipe import recipe_of
from cytoseg.workflows.anomaly import Scorer, known_thresholds, learn_thresholds, score_slides, trained_on
from tests.anomaly.networks import NORMAL_GREY, DarkIsCell, denoiser

RECIPE = {
    "name": "tiny",
    "slides": {"folders": ["slides"]},
    "crops": {"size_px": 32},
    "diffusion": {"dim": 8, "dim_mults": [1, 2]},
    "training": {"device": "cpu"},
    "classes": [{"name": "background", "colour": "#f0f0f0"}, {"name": "cell", "colour": "#0072b2"}],
    "fill": "background",
    "labels": {"crop_px": 32},
    "predict": {"tile_px": 32, "overlap_px": 8, "skip_glass": False},
}


class Watched:
    """Remembers which slides were scored; interrupts in the given one after its first row of tiles."""

    def __init__(self) -> None:
        self.slides: list[str] = []
        self.interrupt = ""

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[OnProgress]:
        """Watch a slide."""
        self.slides.append(name)

        def on_progress(_what: str, done: int, _total: int) -> None:
            if name == self.interrupt and done > 4:
                raise KeyboardInterrupt

        yield on_progress


@pytest.fixture
def scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    """A run whose networks know images of one grey, and the classes background and cell (dark)."""
    monkeypatch.chdir(tmp_path)
    bundle = tmp_path / "run" / "interpreter" / "bundle"
    bundle.mkdir(parents=True)
    state = {
        "classes": {"names": ["background", "cell"], "colours": [[1, 2, 3], [4, 5, 6]], "fill": None},
        "mpp": None,
        "sha256": {"ensemble": "abc"},
    }
    features = {"taps": [], "timesteps": [], "scale": 1, "noise_seed": 0}
    others = {"architecture": {}, "features": features, "vote": "soft", "precision": "no", "origin": {}}
    (bundle / "state.json").write_text(json.dumps({"format": 1, "kind": "bundle", **state, **others}))
    recipe = recipe_of(RECIPE, [], where=Path("tiny.yaml"))
    segment = cast(EnsemblePredictor, DarkIsCell())
    return Scorer(recipe, tmp_path / "run", segment, denoiser(), "abc", Watched())


def watched(scorer: Scorer) -> Watched:
    return cast(Watched, scorer.watch)


MakeSlide = Callable[..., Path]


@pytest.fixture
def slide(tmp_path: Path) -> MakeSlide:
    """Write a slide of 96 x 64 px: the expected grey with a little noise, and an ink dot at x 70, y 20 if asked for."""

    def make(name: str, *, seed: int = 0, ink: bool = False) -> Path:
        noise = np.random.default_rng(seed).normal(0, 4, (64, 96, 3))
        pixels = np.clip(NORMAL_GREY + noise, 0, 255).astype(np.uint8)
        if ink:
            pixels[14:26, 64:76] = (20, 20, 160)
        path = tmp_path / f"{name}.png"
        Image.fromarray(pixels).save(path, dpi=(50_800, 50_800))
        return path

    return make


def regions(scorer: Scorer, name: str) -> RegionList:
    return read_list(scorer.folder / name)


def test_an_ink_dot_is_marked_and_a_normal_slide_is_not(scorer: Scorer, slide: MakeSlide) -> None:
    thresholds = learn_thresholds(scorer, [slide("a", seed=1), slide("b", seed=2)])
    assert [normal.pixels for normal in thresholds.slides] == [64 * 96, 64 * 96]
    outcomes = score_slides(scorer, [slide("inked", seed=3, ink=True), slide("clean", seed=4)], thresholds)
    assert [error for _, error in outcomes] == [None, None]
    first = regions(scorer, "inked").regions[0]
    assert (first.region.x, first.region.y, first.picture) == (64, 0, "01.png")
    assert first.score > 20
    assert all(0.01 < share < 0.04 for share in regions(scorer, "clean").areas.values())
    with MapFile(scorer.folder / "inked" / ANOMALY) as found:
        assert found.size.width == 96
        assert found.read(70, 20, width=1, height=1)[0, 0] == pytest.approx(255 / 32)  # the map ends there
        assert found.read(20, 50, width=1, height=1)[0, 0] < 2
    with MapFile(scorer.folder / "inked" / "residual.ome.tif") as found:
        assert found.read(70, 20, width=1, height=1)[0, 0] == pytest.approx(340 / 3 / 255, abs=0.01)
    names = {path.name for path in (scorer.folder / "inked").iterdir()}
    maps = {"anomaly.ome.tif", "texture.ome.tif", "shape.ome.tif", "residual.ome.tif", "class_map.ome.tif"}
    assert names == maps | {"regions", "regions.csv", "regions.json", "preview.png", "summary.json"}


def test_what_is_done_is_not_scored_again(scorer: Scorer, slide: MakeSlide) -> None:
    normal, other = slide("a"), slide("b", seed=3)
    score_slides(scorer, [other], learn_thresholds(scorer, [normal]))
    assert known_thresholds(scorer, other) == learn_thresholds(scorer, [normal])
    score_slides(scorer, [other], known_thresholds(scorer, other))
    assert watched(scorer).slides == ["a.png", "b.png"]
    thresholds = learn_thresholds(scorer, [normal, slide("c", seed=5)])
    score_slides(scorer, [other], thresholds)  # other thresholds, other maps
    assert watched(scorer).slides == ["a.png", "b.png", "c.png", "b.png"]
    smaller = replace(scorer, recipe=recipe_of(RECIPE, ["crops.size_px=16"], where=Path("tiny.yaml")))
    assert known_thresholds(smaller, other) == thresholds  # which do not depend on the size of regions
    score_slides(smaller, [other], thresholds)
    assert watched(scorer).slides == ["a.png", "b.png", "c.png", "b.png", "b.png"]


@pytest.mark.posix
def test_an_interrupted_slide_continues_with_the_same_result(scorer: Scorer, slide: MakeSlide) -> None:
    thresholds = learn_thresholds(scorer, [slide("a")])
    path = slide("inked", seed=3, ink=True)
    score_slides(scorer, [path], thresholds)
    files = ("anomaly.ome.tif", "residual.ome.tif", "regions.csv", "regions/01.png")
    whole = [(scorer.folder / "inked" / name).read_bytes() for name in files]
    again = replace(scorer, run=scorer.run.with_name("again"))
    again.run.mkdir()
    (again.run / "interpreter").symlink_to(scorer.run / "interpreter")
    watched(again).interrupt = "inked.png"
    with pytest.raises(KeyboardInterrupt):
        score_slides(again, [path], thresholds)
    assert not (again.folder / "inked").exists()
    assert (again.folder / ".inked.part" / "rows.txt").exists()
    watched(again).interrupt = ""
    score_slides(again, [path], thresholds)
    assert [(again.folder / "inked" / name).read_bytes() for name in files] == whole


def test_without_normal_slides_nothing_is_scored(scorer: Scorer, slide: MakeSlide) -> None:
    with pytest.raises(PredictionError, match=r"b\.png: cannot be scored.*Name held-out normal slides with --normal"):
        known_thresholds(scorer, slide("b"))


def test_thresholds_of_another_model_or_setting_are_refused(scorer: Scorer, slide: MakeSlide) -> None:
    path = slide("a")
    learn_thresholds(scorer, [path])
    with pytest.raises(PredictionError, match="learned with a different backbone"):
        known_thresholds(replace(scorer, backbone="def"), path)
    other = recipe_of(RECIPE, ["predict.overlap_px=16"], where=Path("tiny.yaml"))
    with pytest.raises(PredictionError, match=r"different predict\. Name normal slides again with --normal"):
        known_thresholds(replace(scorer, recipe=other), path)


def test_thresholds_with_a_setting_that_no_longer_exists_are_refused(scorer: Scorer, slide: MakeSlide) -> None:
    path = slide("a")
    learn_thresholds(scorer, [path])
    saved = scorer.folder / THRESHOLDS
    record = json.loads(saved.read_text())
    record["model"]["rotated"] = True
    saved.write_text(json.dumps(record))
    with pytest.raises(PredictionError, match=r"different rotated\. Name normal slides again"):
        known_thresholds(scorer, path)


def test_a_slide_without_tissue_is_no_reference_and_has_no_anomalies(scorer: Scorer, slide: MakeSlide) -> None:
    thresholds = learn_thresholds(scorer, [slide("a")])
    skipping = replace(scorer, recipe=recipe_of(RECIPE, ["predict.skip_glass=true"], where=Path("tiny.yaml")))
    empty = Path("empty.png")
    Image.new("RGB", (96, 64), (245, 245, 245)).save(empty)
    with pytest.raises(PredictionError, match=r"empty\.png: no tissue was found on this normal slide"):
        learn_thresholds(skipping, [empty])
    assert not (scorer.folder / "normal" / "empty").exists()
    assert score_slides(skipping, [empty], thresholds)[0][1] is None
    found = regions(scorer, "empty")
    assert (found.tissue, found.regions, set(found.areas.values())) == (False, (), {0.0})


def test_a_damaged_slide_does_not_stop_the_others(scorer: Scorer, slide: MakeSlide) -> None:
    thresholds = learn_thresholds(scorer, [slide("a")])
    damaged = slide("damaged")
    damaged.write_bytes(damaged.read_bytes()[:300])
    outcomes = score_slides(scorer, [damaged, slide("b")], thresholds)
    assert "damaged.png" in str(outcomes[0][1])
    assert outcomes[1][1] is None


def test_a_full_disk_leaves_no_half_written_result(
    scorer: Scorer, slide: MakeSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    thresholds = learn_thresholds(scorer, [slide("a")])

    def full(*_given: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("cytoseg.anomaly.outputs.write_regions_csv", full)
        ((_, error),) = score_slides(scorer, [slide("b")], thresholds)
    assert "cannot be written (No space left on device); finished work is kept" in str(error)
    assert not (scorer.folder / "b").exists()
    assert score_slides(scorer, [slide("b")], thresholds)[0][1] is None
    monkeypatch.setattr("cytoseg.workflows.anomaly.write_atomically", full)
    with pytest.raises(PredictionError, match=rf"{THRESHOLDS}: cannot be written \(No space left on device\)"):
        learn_thresholds(scorer, [slide("a")])


def test_two_slides_never_share_a_folder(scorer: Scorer, slide: MakeSlide) -> None:
    path = slide("a")
    Path("other").mkdir()
    same = Path("other/a.png")
    same.write_bytes(slide("b", seed=2).read_bytes())
    with pytest.raises(SlideError, match="two slides of the name a would share a folder"):
        learn_thresholds(scorer, [path, same])
    thresholds = learn_thresholds(scorer, [path])
    with pytest.raises(SlideError, match="a slide of this name would replace the normal slides"):
        score_slides(scorer, [slide("normal")], thresholds)
    with pytest.raises(SlideError, match=r"holds the results of .*a\.png"):
        learn_thresholds(scorer, [same])


def test_slides_that_the_model_was_trained_on_are_named(scorer: Scorer, slide: MakeSlide) -> None:
    assert trained_on(scorer.recipe, [slide("a")]) == []  # there are no training slides here
    Path("slides").mkdir()
    seen = Path("slides/seen.png")
    seen.write_bytes(slide("a").read_bytes())
    assert trained_on(scorer.recipe, [slide("a"), seen]) == ["seen.png"]


def test_a_score_of_each_range_has_thresholds(scorer: Scorer, slide: MakeSlide) -> None:
    thresholds = learn_thresholds(scorer, [slide("a")]).thresholds
    assert set(thresholds) == {TEXTURE, SHAPE}
    assert thresholds[TEXTURE][0] > 10 * thresholds[SHAPE][0] > 0
