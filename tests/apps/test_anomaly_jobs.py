"""Anomalies: what the run lacks, and starting to learn normal slides and to score others."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from cytoseg.anomaly.scores import RANGES
from cytoseg.anomaly.thresholds import THRESHOLDS_FILE, NormalSlide, Thresholds
from cytoseg.recipe import dump_recipe, load_recipe
from tests.apps.test_jobs import opened, press, texts
from tests.apps.test_queue import RECIPE

Review = Callable[..., AppTest]
CLASSES = ("glass", "*cell*")


@pytest.fixture
def run(sighted: Path, tmp_path: Path) -> Path:
    """runs/sighted with its slide board, a diffusion model and a model of its classes, as far as a page looks."""
    (tmp_path / "short.yaml").write_text(RECIPE.replace("name: tiny", "name: sighted\nslides: {folders: [slides]}"))
    (sighted / "recipe.yaml").write_text(dump_recipe(load_recipe(str(tmp_path / "short.yaml"))))
    (sighted / "interpreter" / "bundle").mkdir(parents=True)
    add_network(sighted, denoising_weight=1.0)
    return sighted


def add_network(run: Path, *, denoising_weight: float) -> None:
    checkpoint = run / "ddpm" / "checkpoint-000000008"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "state.json").write_text(json.dumps({"recipe": {"training": {"denoising_weight": denoising_weight}}}))


def add_thresholds(run: Path) -> None:
    found = Thresholds(CLASSES, dict.fromkeys(RANGES, (1.0, 1.0)), (NormalSlide("/scans/calm_*.tif", 10),))
    (run / "anomaly").mkdir()
    (run / "anomaly" / "thresholds.json").write_text(json.dumps(THRESHOLDS_FILE.content_of(found)))


def disabled(app: AppTest) -> dict[str, bool]:
    return {
        one.label: one.disabled for one in app.main.button if one.label in ("Learn normal slides", "Find anomalies")
    }


def test_normal_slides_are_learned_first(review: Review, run: Path, tmp_path: Path, started: list[list[str]]) -> None:
    app = opened(review, "anomalies", run, tmp_path)
    assert "First choose slides without anomalies and press *Learn normal slides*." in texts(app)
    assert disabled(app) == {"Learn normal slides": True, "Find anomalies": True}
    app = app.multiselect[0].select("board").run()
    assert disabled(app) == {"Learn normal slides": False, "Find anomalies": True}
    app = press(app, "Learn normal slides")
    slide = str(tmp_path / "slides" / "board.ome.tif")
    assert started[0][-4:] == ["anomaly", str(run / "recipe.yaml"), "--normal", slide]
    assert "**1. Learn normal slides: board**: waiting" in texts(app)


def test_chosen_slides_are_scored_by_their_paths(
    review: Review, run: Path, tmp_path: Path, started: list[list[str]]
) -> None:
    add_thresholds(run)
    app = opened(review, "anomalies", run, tmp_path)
    assert "Normal slides: calm_*.tif." in texts(app)
    assert "/scans" not in texts(app)
    app = press(app.multiselect[0].select("board").run(), "Find anomalies")
    assert started[0][-3:] == ["anomaly", str(run / "recipe.yaml"), str(tmp_path / "slides" / "board.ome.tif")]
    assert "Find anomalies: started as job 1." in texts(app)


def test_a_start_needs_a_name(review: Review, run: Path, tmp_path: Path) -> None:
    add_thresholds(run)
    app = opened(review, "anomalies", run, tmp_path, name="").multiselect[0].select("board").run()
    assert disabled(app) == {"Learn normal slides": True, "Find anomalies": True}


@pytest.mark.parametrize(
    ("spoil", "said", "links"),
    [
        (lambda run: (run / "interpreter" / "bundle").rmdir(), "no model of its classes yet", ["Annotate"]),
        (lambda run: (run / "ddpm").rename(run / "away"), "no diffusion model yet", ["Jobs"]),
        (lambda run: add_network(run, denoising_weight=0), "learned masks only and cannot tell", ["Jobs"]),
        (lambda run: (run.parents[1] / "slides" / "board.ome.tif").unlink(), "hold no slides", ["New project"]),
    ],
)
def test_what_the_run_lacks_is_said_with_the_page_that_makes_it(
    spoil: Callable[[Path], None], said: str, links: list[str], review: Review, run: Path, tmp_path: Path
) -> None:
    spoil(run)
    app = opened(review, "anomalies", run, tmp_path)
    assert said in texts(app)
    assert disabled(app) == {}
    assert [link.proto.label for link in app.main.get("page_link")] == links


def test_a_latent_space_needs_another_run(review: Review, run: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(run / "recipe.yaml"), ["space.kind=kl"])
    (run / "recipe.yaml").write_text(dump_recipe(recipe))
    app = opened(review, "anomalies", run, tmp_path)
    assert "the recipe has space.kind: kl. Begin a run without the section space." in texts(app)
    assert [link.proto.label for link in app.main.get("page_link")] == ["New project"]


def test_damaged_thresholds_are_a_sentence_and_can_be_learned_again(
    review: Review, run: Path, tmp_path: Path, started: list[list[str]]
) -> None:
    (run / "anomaly").mkdir()
    (run / "anomaly" / "thresholds.json").write_text("{")
    app = opened(review, "anomalies", run, tmp_path)
    assert "thresholds.json" in texts(app)
    press(app.multiselect[0].select("board").run(), "Learn normal slides")
    assert len(started) == 1


def test_the_page_jobs_leads_to_anomalies(review: Review, run: Path, tmp_path: Path) -> None:
    app = press(opened(review, "jobs", run, tmp_path), "Find anomalies")
    assert [title.value for title in app.title] == ["Anomalies"]
