"""Checkpoints of trainings mutated at random: loaded and trained on, or refused in one printable line."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.settings import TrainSettings
from cytoseg.diffusion.space_settings import SpaceShape
from cytoseg.diffusion.state import TrainState, load_autoencoder, load_backbone, resume_from_newest, save
from cytoseg.diffusion.train_steps import new_state
from cytoseg.recipe import load_recipe
from cytoseg.workflows.autoencoder import AUTOENCODER_FOLDER, trained_autoencoder
from tests.test_fuzz import NUMBERS, check
from tests.test_fuzz_run_files import damage_one_file

UNET = Architecture(dim=8, dim_mults=(1, 2), timesteps=10, schedule="linear", objective="pred_noise", channels=1)
LATENT = {kind: replace(UNET, space=SpaceShape(kind, 2, 8)) for kind in ("kl", "vq")}
FEWER = NUMBERS[: max(1, len(NUMBERS) // 5)]
FOLDER = Path("runs", "t", AUTOENCODER_FOLDER)
RECIPE = """\
name: t
slides: {mpp: 0.5}
space: {kind: kl, dim: 8}
classes: [{name: a, colour: "#000000"}, {name: b, colour: "#ffffff"}]
"""


def new(architecture: Architecture, *, seed: int) -> TrainState:
    return new_state(architecture, TrainSettings(size_px=16, seed=seed))


def step(state: TrainState) -> None:
    for weights in state.unet.parameters():
        weights.grad = torch.full_like(weights, 0.1)
    state.optimiser.step()
    state.crops_seen += 4


def saved(architecture: Architecture) -> Path:
    """Save a training of one step as that of a run."""
    state = new(architecture, seed=1)
    step(state)
    Path("r.yaml").write_text(RECIPE)
    return save(FOLDER, state, recipe=load_recipe("r.yaml").model_dump(mode="json"))


def use(architecture: Architecture) -> None:
    """Train on from the checkpoint, and load it as what comes next does."""
    resumed = new(architecture, seed=2)
    assert resume_from_newest(FOLDER, resumed, on_damaged=lambda _: None) is not None
    step(resumed)


def load(architecture: Architecture) -> None:
    if architecture.part == "unet":
        load_backbone(FOLDER, architecture)
    else:
        trained_autoencoder(load_recipe("r.yaml"))
        load_autoencoder(FOLDER, LATENT[architecture.space.kind])


@pytest.mark.parametrize("architecture", [UNET, *(a.of_autoencoder() for a in LATENT.values())], ids=["unet", *LATENT])
def test_a_mutated_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: Architecture) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = saved(architecture)
    whole = {path: path.read_bytes() for path in checkpoint.iterdir()}
    described = checkpoint / "state.json"
    use(architecture)
    load(architecture)
    for number in FEWER:
        draw = random.Random(f"{architecture.space.kind} {number}")
        damage_one_file(described, whole, draw)
        check(lambda: use(architecture), number)
        check(lambda: load(architecture), number)
