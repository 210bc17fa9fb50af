"""The main job in the latents of an autoencoder: MLPs and a tuned network, to the maps of a slide."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import Result

import cytoseg as cs
from cytoseg.interpreter.bundle import load_bundle
from cytoseg.labels.index import load_index
from tests.end_to_end.conftest import RECIPE

Command = Callable[..., Result]


@pytest.fixture
def latent(home: Path, cytoseg: Command, unchecked: None) -> Path:
    """Train both stages in a run of their own, with the labels of the tiny run; gives the run folder."""
    space = "space: {kind: vq, factor: 4, dim: 8, crops: 8}\n"
    text = RECIPE.replace("name: tiny", "name: latent").replace("samples: 2", "samples: 0")
    Path("latent.yaml").write_text(text.replace("timesteps: [1, 5]", "timesteps: [1, 5], taps: all") + space)
    shutil.copytree("runs/tiny/labels", "runs/latent/labels")
    for line in ("train-autoencoder", "train-ddpm"):
        result = cytoseg(line, "latent.yaml")
        assert result.exit_code == 0, result.output
    return Path("runs/latent")


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param((), id="mlps"),
        pytest.param(("interpreter.kind=decoder", "decoder.steps=2"), id="decoder"),
    ],
)
def test_a_slide_is_segmented_in_latents(latent: Path, part: str, cytoseg: Command, overrides: tuple[str, ...]) -> None:
    for line in (
        ("train-interpreter", "latent.yaml"),
        ("evaluate", "latent.yaml", "--no-baseline"),
        ("predict", "latent.yaml", part),
    ):
        result = cytoseg(*line, *overrides)
        assert result.exit_code == 0, result.output
    with tifffile.TiffFile(latent / "predictions" / "part" / "class_map.ome.tif") as file:
        ids = file.series[0].asarray()
    assert ids.shape == (80, 80)
    assert set(np.unique(ids)) <= {0, 1, 2, 255}
    bundle = load_bundle(latent / "interpreter" / "bundle")
    assert (bundle.architecture.space.kind, bundle.architecture.space.factor) == ("vq", 4)
    # The bundle needs nothing of the run: neither its autoencoder nor its diffusion model.
    shutil.copytree(latent / "interpreter" / "bundle", "alone")
    crop = load_index(latent / "labels").crops[0].picture()
    before = cs.load_bundle("alone").predict(crop)
    shutil.rmtree(latent)
    after = cs.load_bundle("alone").predict(crop)
    assert after.class_map.shape == crop.shape[:2]
    np.testing.assert_array_equal(after.probabilities, before.probabilities)
    np.testing.assert_allclose(after.probabilities.sum(0), 1, atol=1e-5)
