from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from cytoseg.checkpoints import find_checkpoints
from cytoseg.diffusion.architecture import tap_shapes
from cytoseg.diffusion.state import load_backbone
from cytoseg.features.extract import FeatureExtractor, to_input
from cytoseg.recipe import load_recipe
from cytoseg.workflows.autoencoder import autoencoder_settings, peak_ratio_db

SPACE = ("space.kind=kl", "space.dim=8", "space.crops=8")
FEW = ("training.crops=8", "training.batch=4", "training.workers=0", "training.samples=0", "folder=run")
Cytoseg = Callable[..., Result]


@pytest.mark.usefixtures("unchecked")
def test_from_the_autoencoder_to_samples_and_features(cytoseg: Cytoseg) -> None:
    first = cytoseg("train-autoencoder", "tiny.yaml", *SPACE, *FEW)
    assert first.exit_code == 0, first.output
    assert "Trained on 8 crops" in first.output
    assert " dB. See run/autoencoder/reconstructed.png" in first.output
    assert {p.name for p in Path("run/autoencoder").iterdir()} == {
        *("checkpoint-000000008", "metrics.jsonl", "loss.png", "reconstructed.png"),
    }
    assert cytoseg("train-ddpm", "tiny.yaml", *SPACE, *FEW).exit_code == 0
    drawn = cytoseg("sample", "tiny.yaml", *SPACE, *FEW, "--n", "1", "--steps", "2")
    assert "1 samples after 8 crops" in drawn.output or "not valid images" in drawn.output
    recipe = load_recipe("tiny.yaml", [*SPACE, *FEW])
    unet, architecture, _ = load_backbone(Path("run/ddpm"), recipe.architecture())
    assert architecture.multiple_px == 4
    extractor = FeatureExtractor(unet, architecture, recipe.feature_settings(), device=torch.device("cpu"))
    maps = extractor(to_input(torch.zeros(1, 30, 32, 3, dtype=torch.uint8).numpy())).maps
    shapes = tap_shapes(architecture, recipe.taps()) * 3
    assert [tuple(found.shape[1:]) for found in maps] == [(c, 32 // down, 32 // down) for c, down in shapes]
    assert min(down for _, down in shapes) == 2

    # Another run takes the space with the model, and needs no autoencoder of its own.
    plain = [text for text in FEW if not text.startswith("folder")]
    other = cytoseg("train-ddpm", "tiny.yaml", *plain, "folder=other", "--init", "run/ddpm")
    assert other.exit_code == 0, other.output
    assert load_recipe("other/recipe.yaml").architecture() == architecture
    coarse = cytoseg("train-ddpm", "tiny.yaml", *plain, "slides.mpp=1.0", "folder=third", "--init", "run/ddpm")
    assert "run/ddpm: its autoencoder was trained at slides.mpp null, but the recipe has 1.0" in coarse.output
    wrong = cytoseg("train-ddpm", "tiny.yaml", *SPACE, *plain, "folder=third", "--init", "run/autoencoder")
    assert wrong.exit_code == 2
    assert "an autoencoder, not a diffusion model" in wrong.output


@pytest.mark.usefixtures("unchecked")
def test_an_autoencoder_goes_on_and_is_refused_at_another_pixel_size(cytoseg: Cytoseg) -> None:
    assert cytoseg("train-autoencoder", "tiny.yaml", *SPACE, *FEW).exit_code == 0
    again = cytoseg("train-autoencoder", "tiny.yaml", *SPACE, *FEW)
    assert again.exit_code == 2
    assert "already contains checkpoint-000000008. Add --resume" in again.output
    resumed = cytoseg("train-autoencoder", "tiny.yaml", *SPACE[:2], "space.crops=12", *FEW, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert find_checkpoints(Path("run/autoencoder"))[0].name == "checkpoint-000000012"
    other = cytoseg("train-ddpm", "tiny.yaml", *SPACE, *FEW, "slides.mpp=1.0")
    assert other.exit_code == 2
    assert "run/autoencoder: its autoencoder was trained at slides.mpp null, but the recipe has 1.0" in other.output


def test_pixels_have_no_autoencoder(cytoseg: Cytoseg) -> None:
    found = cytoseg("train-autoencoder", "tiny.yaml")
    assert found.exit_code == 2
    assert "has no latent space. Write space: {kind: kl, factor: 2}" in found.output


def test_anomaly_takes_pixels_only(cytoseg: Cytoseg) -> None:
    found = cytoseg("anomaly", "tiny.yaml", "slides", *SPACE)
    assert found.exit_code == 2
    assert "anomaly: takes a diffusion model of pixels, but the recipe has space.kind: kl" in found.output


def test_a_latent_space_without_its_autoencoder_is_refused(cytoseg: Cytoseg) -> None:
    found = cytoseg("train-ddpm", "tiny.yaml", *SPACE, *FEW)
    assert found.exit_code == 2
    assert "space.kind=kl needs an autoencoder, but there is none. Run `cytoseg train-autoencoder`" in found.output


def test_a_crop_that_the_factor_does_not_divide_is_refused(cytoseg: Cytoseg) -> None:
    found = cytoseg("train-autoencoder", "tiny.yaml", *SPACE, "space.factor=4", "crops.size_px=36")
    assert found.exit_code == 2
    assert "crops.size_px: 36 is not a multiple of 8, as diffusion.dim_mults and space.factor need" in found.output


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            ("diffusion.backbone=adm", "diffusion.learn_variance=true"),
            "diffusion.learn_variance works with pixels only",
        ),
        (("diffusion.backbone=adm", "diffusion.condition=map"), "diffusion.condition: map works with pixels only"),
        (("diffusion.backbone=pretrained", "diffusion.dim_mults=[1,1,1]"), "pretrained works with pixels only"),
    ],
)
def test_what_needs_pixels_is_refused_in_latents(cytoseg: Cytoseg, change: tuple[str, ...], named: str) -> None:
    found = cytoseg("train-autoencoder", "tiny.yaml", *SPACE, *change)
    assert found.exit_code == 2
    assert named in found.output


def test_settings_are_those_of_training_but_for_those_of_the_space(cytoseg: object) -> None:
    recipe = load_recipe("tiny.yaml", [*SPACE, "space.adversarial_from=3", "training.batch=5", "training.compile=true"])
    settings = autoencoder_settings(recipe)
    assert (settings.crops, settings.rate, settings.adversarial_from) == (8, 2e-4, 3)
    assert (settings.batch, settings.size_px, settings.compile) == (5, 32, False)


def test_the_ratio_is_that_of_the_whole_range() -> None:
    assert peak_ratio_db(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.2)) == pytest.approx(20.0)
