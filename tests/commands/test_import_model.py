"""A published model on its way to features, and to a training that goes on from it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import Result

from cytoseg.commands import import_model
from cytoseg.diffusion.adm import AdmShape, AdmUnet
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.diffusion.guided_diffusion_files import GuidedDiffusion
from cytoseg.diffusion.state import load_backbone
from cytoseg.recipe import load_recipe

Cytoseg = Callable[..., Result]
SHAPE = AdmShape(8, (1, 2), 6, AdmSettings(blocks=1, attention=(2,)))


@pytest.fixture
def published(cytoseg: Cytoseg) -> dict[str, Tensor]:
    """A small network saved as guided-diffusion does, and a recipe without a section diffusion."""
    torch.manual_seed(3)
    weights = {name: 0.1 * torch.randn(tensor.shape) for name, tensor in AdmUnet(SHAPE).state_dict().items()}
    torch.save(weights, "lsun.pt")
    text = Path("tiny.yaml").read_text().replace("diffusion: {dim: 8, dim_mults: [1, 2]}\n", "")
    Path("mine.yaml").write_text(text.replace("tiny", "mine"), encoding="utf-8")
    return weights


def test_a_published_model_becomes_a_checkpoint(cytoseg: Cytoseg, published: dict[str, Tensor]) -> None:
    result = cytoseg("import-model", "lsun.pt", "lsun", "--image-size", "32")
    assert result.exit_code == 0, result.output
    assert "4 blocks (block0.output to block3.output)" in result.stdout
    network, architecture, origin = load_backbone(Path("lsun"))
    assert (architecture.backbone, architecture.dim, architecture.dim_mults) == ("adm", 8, (1, 2))
    assert (architecture.adm, architecture.learn_variance) == (SHAPE.settings, True)
    assert (architecture.schedule, architecture.timesteps, architecture.objective) == ("linear", 1000, "pred_noise")
    torch.testing.assert_close(dict(network.state_dict()), published, rtol=0, atol=0)
    assert origin["crops_seen"] == 0
    state = json.loads(Path("lsun/state.json").read_text())
    assert state["started_from"]["file"] == "lsun.pt"
    assert state["recipe"]["crops"]["size_px"] == 32


def test_a_recipe_takes_its_architecture(cytoseg: Cytoseg, published: dict[str, Tensor]) -> None:
    assert cytoseg("import-model", "lsun.pt", "lsun").exit_code == 0
    recipe = load_recipe("mine.yaml", ["training.init=lsun", "features.taps=[block0.output, block2.output]"])
    assert recipe.architecture() == load_backbone(Path("lsun"))[1]
    assert recipe.taps() == ("block0.output", "block2.output")
    result = cytoseg("recipe", "check", "mine.yaml", "training.init=lsun", "slides.mpp=null")
    assert result.exit_code == 0, result.output
    assert "48 channels at each of t = 50, 100, 150" in result.stdout


@pytest.mark.usefixtures("unchecked")
def test_a_training_goes_on_from_it(cytoseg: Cytoseg, published: dict[str, Tensor]) -> None:
    assert cytoseg("import-model", "lsun.pt", "lsun").exit_code == 0
    short = ("training.crops=4", "training.batch=2", "training.workers=0", "training.samples=0", "training.init=lsun")
    trained = cytoseg("train-ddpm", "mine.yaml", *short)
    assert trained.exit_code == 0, trained.output
    weights = load_backbone(Path("runs/mine/ddpm"))[0].state_dict()
    for part in ("out.2.weight", "input_blocks.0.0.weight"):
        assert 0 < (weights[part] - published[part]).abs().max() < 1e-3
    # The rows of the variance learn, too.
    assert bool((weights["out.2.weight"][3:] != published["out.2.weight"][3:]).any())


def test_a_folder_that_exists_is_kept(cytoseg: Cytoseg, published: dict[str, Tensor]) -> None:
    Path("lsun").mkdir()
    result = cytoseg("import-model", "lsun.pt", "lsun")
    assert result.exit_code == 2
    assert "lsun: already exists. Choose a new folder" in result.stderr


def test_of_two_imports_into_one_folder_the_quicker_stays(
    cytoseg: Cytoseg, published: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = import_model.read_guided_diffusion

    def overtaken(file: Path) -> GuidedDiffusion:
        found = real(file)
        if file.name == "lsun.pt":
            assert cytoseg("import-model", "other.pt", "lsun").exit_code == 0
        return found

    torch.save({name: 2 * tensor for name, tensor in published.items()}, "other.pt")
    monkeypatch.setattr(import_model, "read_guided_diffusion", overtaken)
    result = cytoseg("import-model", "lsun.pt", "lsun")
    assert result.exit_code == 2
    assert "lsun: already exists. Choose a new folder" in result.stderr
    assert json.loads(Path("lsun/state.json").read_text())["started_from"]["file"] == "other.pt"
    assert list(Path().glob(".*")) == []


def test_a_network_for_other_pictures_is_refused(cytoseg: Cytoseg) -> None:
    torch.save(AdmUnet(AdmShape(8, (1, 2), 3, AdmSettings(), in_channels=6)).state_dict(), "upsampler.pt")
    result = cytoseg("import-model", "upsampler.pt", "model")
    assert result.exit_code == 2
    assert "upsampler.pt: takes 6 channels and gives 3; images here have 3" in result.stderr
    assert not Path("model").exists()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("diffusion.adm.blocks=3", "diffusion.adm: describes the backbone adm, found diffusion.backbone: lucidrains"),
        ("diffusion.learn_variance=true", "diffusion.learn_variance: needs diffusion.backbone: adm"),
        ("diffusion.condition=map", "diffusion.condition: map needs diffusion.backbone: adm, found lucidrains"),
        ("diffusion.adm.attention=[3]", "diffusion.adm.attention: write 1, 2, 4, 8 and so on, found 3"),
    ],
)
def test_settings_that_change_nothing_are_refused(cytoseg: Cytoseg, override: str, sentence: str) -> None:
    adm = ("diffusion.backbone=adm",) if "attention" in override else ()
    result = cytoseg("recipe", "check", "tiny.yaml", override, *adm)
    assert result.exit_code == 2
    assert sentence in result.stderr
