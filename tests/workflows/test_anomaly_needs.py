"""What a run lacks to find anomalies, one thing after another, and the same at a start from the app."""

import json
import re
from pathlib import Path

import pytest

from cytoseg.anomaly.scores import RANGES
from cytoseg.anomaly.thresholds import THRESHOLDS_FILE, NormalSlide, Thresholds
from cytoseg.errors import CytosegError, RecipeError
from cytoseg.jobs.job_commands import LEARN_NORMAL
from cytoseg.jobs.job_database import JobPlace
from cytoseg.recipe import dump_recipe, recipe_of
from cytoseg.workflows import start_from_app
from cytoseg.workflows.anomaly_needs import Missing, missing_for_anomalies, refuse_unready_for_anomalies
from cytoseg.workflows.start_from_app import start_on_run
from tests.workflows.test_anomaly import RECIPE


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """runs/tiny with a recipe only."""
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    write_recipe(folder)
    return folder


def write_recipe(run: Path, *overrides: str) -> None:
    recipe = recipe_of(RECIPE, list(overrides), where=Path("tiny.yaml"))
    (run / "recipe.yaml").write_text(dump_recipe(recipe))


def add_checkpoint(run: Path, crops: int, **training: float) -> None:
    folder = run / "ddpm" / f"checkpoint-{crops:09d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.json").write_text(json.dumps({"recipe": {"training": training, "diffusion": {"timesteps": 1000}}}))


def add_thresholds(run: Path) -> None:
    found = Thresholds(("a",), dict.fromkeys(RANGES, (1.0,)), (NormalSlide("a.tif", 1),))
    (run / "anomaly").mkdir()
    (run / "anomaly" / "thresholds.json").write_text(json.dumps(THRESHOLDS_FILE.content_of(found)))


def missing(run: Path) -> Missing | None:
    return missing_for_anomalies(run, base=run.parents[1])


def refused(run: Path, *, normal: bool) -> str:
    with pytest.raises(CytosegError) as error:
        refuse_unready_for_anomalies(run, base=run.parents[1], normal=normal)
    return str(error.value)


def test_one_thing_after_another_is_missing(run: Path) -> None:
    assert missing(run) == Missing("This run has no diffusion model yet, which tells what is normal.", "train-ddpm")
    assert refused(run, normal=True).endswith("what is normal. Run `cytoseg train-ddpm RECIPE` first.")
    add_checkpoint(run, 8, denoising_weight=1)
    assert missing(run) == Missing(
        "This run has no model of its classes yet: annotate crops and train.", "train-interpreter"
    )
    (run / "interpreter" / "bundle").mkdir(parents=True)
    assert missing(run) is None
    refuse_unready_for_anomalies(run, base=run.parents[1], normal=True)
    assert refused(run, normal=False).startswith("anomaly: this run has no normal slides yet.")
    add_thresholds(run)
    refuse_unready_for_anomalies(run, base=run.parents[1], normal=False)


def test_the_newest_network_must_have_learned_to_denoise(run: Path) -> None:
    (run / "interpreter" / "bundle").mkdir(parents=True)
    add_checkpoint(run, 8, denoising_weight=1)
    add_checkpoint(run, 16, denoising_weight=0)
    found = missing(run)
    assert found is not None
    assert (found.command, "checkpoint-000000016 learned masks only" in found.sentence) == ("train-ddpm", True)
    add_checkpoint(run, 20, denoising_weight=1, highest_t=200)
    found = missing(run)
    assert found is not None
    assert "checkpoint-000000020 learned weak noise only" in found.sentence
    add_checkpoint(run, 24)  # of an older version
    assert missing(run) is None
    (run / "ddpm" / "checkpoint-000000024" / "state.json").write_text("{")
    assert missing(run) is None  # the command says what is wrong with it


@pytest.mark.parametrize(("init", "command"), [("cytology-base", "train-ddpm"), ("lbc-base", None)])
def test_a_base_model_counts_if_it_denoises(init: str, command: str | None, run: Path) -> None:
    (run / "interpreter" / "bundle").mkdir(parents=True)
    recipe = {key: section for key, section in RECIPE.items() if key != "diffusion"}
    found = recipe_of(recipe, [f"training.init={init}"], where=Path("tiny.yaml"))
    (run / "recipe.yaml").write_text(dump_recipe(found))
    lacks = missing(run)
    assert (None if lacks is None else lacks.command) == command


def test_a_latent_space_is_refused_as_by_the_command(run: Path) -> None:
    write_recipe(run, "space.kind=kl")
    assert "but the recipe has space.kind: kl. Begin a run without the section space." in refused(run, normal=True)
    (run / "recipe.yaml").write_text("name: tiny\n")
    with pytest.raises(RecipeError, match=re.escape("recipe.yaml of this run cannot be used")):
        missing(run)


@pytest.mark.parametrize("command", [LEARN_NORMAL, "anomaly"])
def test_a_start_from_the_app_is_refused_before_there_is_a_job(
    command: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(start_from_app, "start_job", lambda _place, command, **_: started.append(command) or 1)
    slide = [str(run.parents[1] / "a.tif")]

    def start() -> int:
        return start_on_run(JobPlace(run), command, author="Anna", base=run.parents[1], keys=["a"], given=slide)

    with pytest.raises(CytosegError, match="anomaly: This run has no diffusion model yet"):
        start()
    assert started == []
    add_checkpoint(run, 8, denoising_weight=1)
    (run / "interpreter" / "bundle").mkdir(parents=True)
    add_thresholds(run)
    assert (start(), started) == (1, [command])
