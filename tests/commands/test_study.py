"""``cytoseg study`` on tiny slides."""

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from cytoseg.recipe import load_recipe
from cytoseg.workflows import variant_outcome
from cytoseg.workflows.architectures import PLAIN, variants_of

SMALL = (
    "crops.size_px=16",
    "training.crops=4",
    "training.batch=2",
    "training.workers=0",
    "diffusion.timesteps=30",
    "features.timesteps=[3]",
    "interpreter.members=2",
    "interpreter.steps=2",
)
STUDY = ("study", "architectures", "tiny.yaml", *SMALL, "--seeds", "1", "--samples", "8")


@pytest.fixture
def labelled(cytoseg: Callable[..., Result]) -> Callable[..., Result]:
    """Two images with masks are imported as the train and the test crop."""
    for folder in ("labelled/images", "labelled/masks"):
        Path(folder).mkdir(parents=True)
    for name in "ab":
        mask = np.zeros((16, 16), np.uint8)
        mask[4:12, 4:12] = 1
        Image.fromarray(mask).save(f"labelled/masks/{name}.png")
        Image.fromarray(245 - 150 * mask).save(f"labelled/images/{name}.png")
    result = cytoseg("label-import", "labelled", "--recipe", "tiny.yaml")
    assert result.exit_code == 0, result.output
    return cytoseg


@pytest.mark.slow
def test_variants_are_trained_measured_and_kept(labelled: Callable[..., Result]) -> None:
    result = labelled(*STUDY, "--variants", "base,wide=diffusion.dim=16")
    assert result.exit_code == 0, result.output
    folder = Path("runs/tiny/architectures")
    rows = [line.split(",") for line in (folder / "architectures.csv").read_text(encoding="utf-8-sig").splitlines()]
    assert [row[0] for row in rows] == ["variant", "base", "wide", "base again"]
    assert rows[0][-4:] == ["kid", "fid", "iou 0", "iou 1"]
    weights = [float(row[2]) for row in rows[1:]]
    assert weights[0] == weights[2] < weights[1]
    stored = {path.name: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}
    assert set(stored) == {"base-0.json", "wide-0.json", "base-1.json"}
    outcome = json.loads((folder / "runs" / "base-0.json").read_text())["outcome"]
    assert outcome["crops"] == 4
    assert list(outcome["losses"]) == ["0-5", "6-11", "12-17", "18-23", "24-29"]
    assert len(outcome["iou"]) == 2
    again = labelled(*STUDY, "--variants", "base,wide=diffusion.dim=16")
    assert again.exit_code == 0, again.output
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()} == stored


@pytest.mark.slow
def test_trainings_may_end_by_time(cytoseg: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    # Every look at the clock takes a tenth of a second, and each step looks twice.
    monkeypatch.setattr(variant_outcome, "time", SimpleNamespace(perf_counter=lambda: next(ticks) / 10))
    result = cytoseg(*STUDY, "--variants", "base", "--minutes", "0.01", "training.crops=2")
    assert result.exit_code == 0, result.output
    assert "Each trained for 0.01 min" in result.stdout
    outcome = json.loads(Path("runs/tiny/architectures/runs/base-0.json").read_text())["outcome"]
    # .8 s: the time ends the training, not the recipe's number of crops. Nothing is labelled.
    assert (outcome["crops"], outcome["iou"]) == (8, [])


def test_a_rate_that_falls_with_the_crops_cannot_end_by_time(cytoseg: Callable[..., Result]) -> None:
    result = cytoseg(*STUDY, "--variants", "falling=training.rate_schedule=cosine", "--minutes", "0.01")
    assert result.exit_code == 2
    assert result.stderr == (
        "cytoseg: --minutes: with training.rate_schedule cosine, the rate of falling would reach its end at "
        "training.crops=4, not at that time. Add training.rate_schedule=constant.\n"
    )
    assert not Path("runs/tiny/architectures/runs").exists()


LATENT = ("space.factor=2", "space.dim=8", "space.crops=2")


def test_a_variant_in_latents_needs_an_autoencoder(cytoseg: Callable[..., Result]) -> None:
    result = cytoseg(*STUDY, *LATENT, "--variants", "latent=space.kind=kl")
    assert result.exit_code == 2
    assert "runs/tiny/autoencoder: space.kind=kl needs an autoencoder" in result.stderr


@pytest.mark.slow
def test_a_variant_may_work_in_latents(cytoseg: Callable[..., Result]) -> None:
    seen = []
    for seed in (0, 1):
        shutil.rmtree("runs/tiny/autoencoder", ignore_errors=True)
        train = cytoseg("train-autoencoder", "tiny.yaml", *SMALL, *LATENT, "space.kind=kl", f"training.seed={seed}")
        assert train.exit_code == 0, train.output
        result = cytoseg(*STUDY, *LATENT, "--variants", "latent=space.kind=kl")
        assert result.exit_code == 0, result.output
        text = Path("runs/tiny/architectures/runs/latent-0.json").read_text(encoding="utf-8")
        seen.append(json.loads(text)["outcome"])
    assert seen[0]["crops"] == seen[1]["crops"] == 4
    # Another autoencoder is another measurement: the stored one is not taken for it.
    assert seen[0]["losses"] != seen[1]["losses"]


@pytest.mark.parametrize("kind", ["student", "segdiff"])
def test_label_efficiency_of_a_method_that_it_cannot_train_is_refused(
    cytoseg: Callable[..., Result], kind: str
) -> None:
    result = cytoseg("study", "label-efficiency", "tiny.yaml", f"interpreter.kind={kind}")
    assert (result.exit_code, result.stderr) == (
        2,
        f"cytoseg: study label-efficiency: cannot train interpreter.kind {kind}. Add interpreter.kind=mlps or "
        "interpreter.kind=decoder.\n",
    )


@pytest.mark.usefixtures("cytoseg")
def test_each_variant_is_one_change_of_the_base() -> None:
    recipes = variants_of(load_recipe("tiny.yaml"), "cosine,no-attention,deep=diffusion.dim_mults=[1,2,2],convnext")
    assert list(recipes) == ["base", "cosine", "no-attention", "deep", "convnext"]
    base = recipes["base"]
    assert PLAIN[0] == "diffusion.backbone=adm"
    assert (base.diffusion.backbone, base.diffusion.adm.conditioning, base.features.taps) == ("adm", "add", "all")
    assert recipes["no-attention"].diffusion.adm.attention == ()
    assert recipes["deep"].diffusion.dim_mults == (1, 2, 2)
    assert recipes["convnext"].diffusion.adm.block == "convnext"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("adagm", "'adagm' is not one of base, adagn, convnext, cosine, no-attention"),
        ("", "'' is not one of base"),
        ("adagn,adagn", "adagn appears twice. Name each once."),
        ("base=diffusion.dim=16", "base appears twice"),
        ("Wide=diffusion.dim=16", "name a variant with small letters, digits and hyphens"),
        ("../x=diffusion.dim=16", "name a variant with small letters, digits and hyphens"),
        ("big=crops.size_px=64", "big changes crops.size_px=64, but only diffusion, training and space may differ"),
        ("odd=diffusion.dim=9", "variant odd"),
        ("odd=diffusion.dim", "diffusion.dim"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(cytoseg: Callable[..., Result], asked: str, said: str) -> None:
    result = cytoseg("study", "architectures", "tiny.yaml", "--variants", asked)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr
