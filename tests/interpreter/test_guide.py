from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cytoseg.classes import IGNORE, ClassList
from cytoseg.diffusion.add_noise import alpha_bar
from cytoseg.diffusion.architecture import Architecture, tap_names, tap_shapes
from cytoseg.diffusion.unet import build_unet
from cytoseg.errors import RecipeError
from cytoseg.features.settings import FeatureSettings
from cytoseg.interpreter.bundle import Bundle
from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.guide import class_to_guide, guide_by_interpreter, guide_to_map
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.segdiff import SegDiff
from cytoseg.interpreter.student import Student

BARS = alpha_bar("cosine", 20)
CLASSES = ClassList(("glass", "nucleus"), ((255, 255, 255), (0, 0, 0)), None)


def _bundle(kind: str, channels: int) -> tuple[Bundle, nn.Module]:
    architecture: Any = Architecture(
        dim=8, dim_mults=(1, 2), timesteps=20, schedule="cosine", objective="pred_x0", channels=channels
    )
    unet = build_unet(architecture, seed=1).eval()
    settings = FeatureSettings(tap_names(architecture)[:3], (2,), extractors=("ddpm", "filters"))
    widths = sum(width for width, _ in tap_shapes(architecture, settings.taps)) + 24 * channels
    interpreter = {
        "mlps": lambda: Ensemble(2, widths, 2, seed=0),
        "decoder": lambda: Decoder(unet, architecture, 2, seed=0),
        "student": lambda: Student(2, seed=0),
    }[kind]()
    bundle = Bundle(unet, architecture, interpreter.eval(), settings, CLASSES, None, "soft", "no", {})
    return bundle, unet


@pytest.mark.parametrize(("kind", "channels"), [("mlps", 3), ("mlps", 1), ("decoder", 1), ("student", 3)])
def test_a_step_along_the_guide_makes_the_class_likelier(kind: str, channels: int) -> None:
    bundle, unet = _bundle(kind, channels)
    how: dict[str, Any] = {"alpha_bars": BARS, "objective": "pred_x0"}
    xt = 0.5 * torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    guides = [guide_by_interpreter(bundle, k, unet, scale=scale, **how) for k, scale in ((1, 1.0), (0, 1.0), (1, 2.0))]
    with torch.inference_mode():  # as in a sampler
        up, down, twice = (guide(xt.clone(), 5) for guide in guides)
    assert up.shape == xt.shape
    assert float(up.abs().max()) > 0
    torch.testing.assert_close(twice, 2 * up)
    # There are two classes: what makes one likelier makes the other less so.
    assert float((up * down).sum()) < 0


def test_the_gradient_is_that_of_finite_differences() -> None:
    bundle, unet = _bundle("student", 3)
    guide = guide_by_interpreter(bundle, 1, unet, scale=1.0, alpha_bars=BARS, objective="pred_x0")
    xt = 0.3 * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    gradient = guide(xt, 5)
    direction = gradient.sign()

    def log_share(x: Tensor) -> float:
        with torch.inference_mode():
            x0 = unet(x, torch.tensor([5])).clamp(-1, 1)
            return float(bundle.interpreter(x0)[:, :2].softmax(1)[:, 1].mean().log())

    step = 1e-2
    slope = (log_share(xt + step * direction) - log_share(xt - step * direction)) / (2 * step)
    assert float(gradient.abs().sum()) == pytest.approx(slope, rel=0.05)


def test_an_unknown_class_is_refused() -> None:
    bundle, _ = _bundle("student", 3)
    assert class_to_guide(bundle, "nucleus") == 1
    with pytest.raises(RecipeError, match=r"^--guide cell: the interpreter does not know this class, only glass, nuc"):
        class_to_guide(bundle, "cell")


def test_an_interpreter_without_a_gradient_is_refused() -> None:
    bundle, _ = _bundle("student", 3)
    drawing = replace(bundle, interpreter=SegDiff(2, seed=0, votes=1, draw_steps=1))
    with pytest.raises(RecipeError, match=r"^--guide nucleus: an interpreter of kind segdiff has no gradient"):
        class_to_guide(drawing, "nucleus")
    mlps, _ = _bundle("mlps", 3)
    on_filters = replace(mlps, features=replace(mlps.features, extractors=("filters",)))
    with pytest.raises(RecipeError, match=r"^--guide nucleus: MLPs on filters alone have no gradient to guide by. Add"):
        class_to_guide(on_filters, "nucleus")


@pytest.mark.parametrize("kind", ["mlps", "decoder", "student"])
def test_a_guide_to_a_map_makes_it_likelier_where_it_asks_for_something(kind: str) -> None:
    bundle, unet = _bundle(kind, 3)
    wanted = torch.full((8, 8), IGNORE)
    wanted[:, 4:] = 1
    guide = guide_to_map(bundle, wanted, unet, scale=0.5, alpha_bars=BARS, objective="pred_x0")
    xt = 0.3 * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        gradient = guide(xt.clone(), 5)
    # Its size is half that of the noise's score, 1 / sqrt(1 - abar), whatever the interpreter's certainty.
    sizes = gradient[..., 4:].square().mean((1, 2, 3)).sqrt() * (1 - float(BARS[5])) ** 0.5
    torch.testing.assert_close(sizes, torch.full((2,), 0.5))
    towards = guide_by_interpreter(bundle, 1, unet, scale=1.0, alpha_bars=BARS, objective="pred_x0")(xt, 5)
    assert float((gradient * towards)[..., 4:].sum()) > 0  # more of the class there
