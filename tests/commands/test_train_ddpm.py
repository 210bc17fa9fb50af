import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from cytoseg.checkpoints import find_checkpoints, load_checkpoint
from cytoseg.jobs.job_commands import command_of
from cytoseg.recipe import dump_recipe, load_recipe
from cytoseg.workflows.training_crops import settings_of, tissue_crops, training_crops


def test_settings_are_the_recipes() -> None:
    recipe = load_recipe("cervical", ["training.seed=5", "training.workers=0"])
    settings = settings_of(recipe)
    assert (settings.crops, settings.batch, settings.size_px) == (8_000_000, 16, 256)
    assert (settings.rate, settings.ema_decay, settings.precision) == (1e-4, 0.9999, "bf16")
    assert (settings.seed, settings.workers, settings.checkpoint_crops) == (5, 0, 100_000)


def test_crops_go_on_from_any_number(cytoseg: object) -> None:
    recipe = load_recipe("tiny.yaml", ["training.crops=10", "slides.mpp=0.5"])
    crop = tissue_crops(recipe)
    all_crops, later = training_crops(recipe, crop)(0), training_crops(recipe, crop)(6)
    assert (len(all_crops), len(later)) == (10, 4)  # type: ignore[arg-type] # Dataset has no length for mypy
    assert later[0].shape == (3, 32, 32)
    torch.testing.assert_close(later[0], all_crops[6])
    crop.close()


SHORT = ("training.crops=2", "training.batch=2", "training.samples=0", "training.workers=0")


@pytest.mark.usefixtures("unchecked")
def test_a_training_starts_from_a_model_that_was_passed_on(cytoseg: Callable[..., Result]) -> None:
    short = (*SHORT, "training.rate=1e-9")
    assert cytoseg("train-ddpm", "tiny.yaml", *short, "folder=runs/first").exit_code == 0
    assert cytoseg("export", "tiny.yaml", "base", "folder=runs/first").exit_code == 0
    passed_on = {name: weights.float() for name, weights in load_checkpoint(Path("base")).tensors["ema"].items()}
    for number, written in enumerate([("--init", "base"), ("training.init=base",)]):
        result = cytoseg("train-ddpm", "tiny.yaml", *short, *written, f"folder=runs/{number}")
        assert result.exit_code == 0, result.output
        assert "Starting from base, trained on 2 crops." in result.stdout
        found = load_checkpoint(Path(f"runs/{number}/ddpm/checkpoint-000000002"))
        assert found.state["recipe"]["training"]["init"] == "base"
        torch.testing.assert_close(found.tensors["model"], passed_on, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_what_follows_takes_the_architecture_that_the_init_brought(cytoseg: Callable[..., Result]) -> None:
    text = Path("tiny.yaml").read_text().replace("diffusion: {dim: 8, dim_mults: [1, 2]}\n", "")
    Path("mine.yaml").write_text(text.replace("tiny", "mine"), encoding="utf-8")
    assert cytoseg("train-ddpm", "tiny.yaml", *SHORT).exit_code == 0
    result = cytoseg("train-ddpm", "mine.yaml", *SHORT, "--init", "runs/tiny/ddpm")
    assert result.exit_code == 0, result.output
    assert "This run uses its architecture: backbone lucidrains, dim 8, dim_mults [1, 2], time" in result.stdout
    assert "of a different architecture" not in cytoseg("sample", "mine.yaml", "--n", "1", "--steps", "2").stderr
    assert load_recipe("runs/mine/recipe.yaml").architecture() == load_recipe("tiny.yaml").architecture()
    result = cytoseg("train-ddpm", "mine.yaml", "--init", "runs/tiny/ddpm", "diffusion.dim=16", "folder=runs/other")
    assert result.exit_code == 2
    assert "(diffusion.dim 8 there, 16 here)" in result.stderr
    assert not Path("runs/other").exists()


@pytest.mark.usefixtures("unchecked")
def test_a_job_that_was_cancelled_is_resumed_by_the_same_words(
    cytoseg: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path("runs/tiny")
    run.mkdir(parents=True)
    recipe = load_recipe("tiny.yaml", ["training.crops=6", *SHORT[1:]])
    (run / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    words = command_of("train-ddpm", run.resolve(), ())

    @contextlib.contextmanager
    def cancelled_at_once(*_: Any) -> Iterator[Any]:
        yield (lambda _report: signal.raise_signal(signal.SIGINT)), []

    with monkeypatch.context() as patched:
        patched.setattr("cytoseg.commands.train_ddpm.shown_steps", cancelled_at_once)
        assert cytoseg(*words).exit_code != 0
    assert [path.name for path in find_checkpoints(run / "ddpm")] == ["checkpoint-000000002"]
    resumed = cytoseg(*words)
    assert resumed.exit_code == 0, resumed.output
    assert find_checkpoints(run / "ddpm")[0].name == "checkpoint-000000006"
    assert "Trained on 6 crops" in resumed.stdout
