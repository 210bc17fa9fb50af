"""Guidance of a sampler by an interpreter, towards more pixels of a class or a class map."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from cytoseg.classes import IGNORE
from cytoseg.diffusion.channels import as_channels
from cytoseg.diffusion.network_output import split_output
from cytoseg.diffusion.sample import Guide, predict_x0_and_noise
from cytoseg.diffusion.space import space_of
from cytoseg.errors import RecipeError
from cytoseg.features.extract import FeatureExtractor
from cytoseg.interpreter.bundle import Bundle
from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.native_inference import differentiable_probabilities
from cytoseg.interpreter.segdiff import SegDiff
from cytoseg.interpreter.student import Student

_TINY = 1e-12


def class_to_guide(bundle: Bundle, name: str) -> int:
    """Find the id of a class by its name.

    Raises:
        RecipeError: If the interpreter does not know it, or has no gradient.
    """
    refuse_without_gradient(bundle, command=f"--guide {name}")
    if name not in bundle.classes.names:
        raise RecipeError(
            f"--guide {name}: the interpreter does not know this class, only {', '.join(bundle.classes.names)}. "
            "Name one of these."
        )
    return bundle.classes.names.index(name)


def refuse_without_gradient(bundle: Bundle, *, command: str) -> None:
    """Refuse an interpreter that cannot guide.

    Args:
        bundle: The bundle.
        command: The command, for the message.

    Raises:
        RecipeError: If it is a SegDiff, or MLPs on filters alone.
    """
    if isinstance(bundle.interpreter, SegDiff):
        raise RecipeError(
            f"{command}: an interpreter of kind segdiff has no gradient to guide by. Train one of "
            "kind mlps, decoder or student."
        )
    if isinstance(bundle.interpreter, Ensemble) and set(bundle.features.extractors) == {"filters"}:
        raise RecipeError(
            f"{command}: MLPs on filters alone have no gradient to guide by. Add ddpm or pretrained to "
            "features.extractors and train the interpreter again, or train a decoder or student."
        )


def guide_by_interpreter(
    bundle: Bundle, class_id: int, unet: nn.Module, *, scale: float, alpha_bars: Tensor, objective: str
) -> Guide:
    """Make a guide towards samples with more pixels of a class.

    An interpreter is trained on images without noise, so it is applied to the x0 that the network predicts from x_t.
    The gradient of the log probability that a random pixel is of the class goes through both.

    Args:
        bundle: The interpreter, with its features; filters are taken as constants.
        class_id: Id of the class.
        unet: The network that draws the sample, in evaluation mode.
        scale: Multiplies the gradient: 0 does not guide; 1 samples from the product of both models, as far as x0 is
            known.
        alpha_bars: (T,) from ``add_noise.alpha_bar``.
        objective: What the network predicts.

    Source: Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis, NeurIPS 2021; for applying it to x0
    Bansal et al., Universal Guidance for Diffusion Models, 2023.
    """

    def share(probabilities: Tensor) -> Tensor:
        return probabilities[:, class_id].flatten(1).mean(1).clamp_min(_TINY).log().sum()

    return _guide(bundle, share, unet, scale=scale, alpha_bars=alpha_bars, objective=objective)


def guide_to_map(
    bundle: Bundle, wanted: Tensor, unet: nn.Module, *, scale: float, alpha_bars: Tensor, objective: str
) -> Guide:
    """Make a guide towards images that show a class map.

    Args:
        bundle: The interpreter, with its features; filters are taken as constants.
        wanted: (H, W) int64 ids for all images or (N, H, W), 255 where any class may be shown.
        unet: The network that draws the sample, in evaluation mode.
        scale: Size of the gradient where a class is given, in units of the noise's own score. The gradient of a
            confident interpreter is almost 0 or huge, so only its direction is used.
        alpha_bars: (T,) from ``add_noise.alpha_bar``.
        objective: What the network predicts.
    """
    asked = wanted != IGNORE

    def agreement(probabilities: Tensor) -> Tensor:
        logs = probabilities.clamp_min(_TINY).log()
        return -functional.nll_loss(logs, wanted.expand(len(logs), -1, -1), ignore_index=IGNORE, reduction="sum")

    towards = _guide(bundle, agreement, unet, scale=1.0, alpha_bars=alpha_bars, objective=objective)

    def guide(xt: Tensor, t: int) -> Tensor:
        gradient = towards(xt, t)
        inside = asked.expand(len(xt), -1, -1)[:, None]
        pixels = (inside.sum((1, 2, 3)) * gradient.shape[1]).clamp_min(1)
        size = ((gradient * inside).square().sum((1, 2, 3)) / pixels).sqrt().clamp_min(_TINY)[:, None, None, None]
        return scale * gradient / size / (1.0 - alpha_bars[t].to(xt)).sqrt()

    return guide


def _guide(
    bundle: Bundle,
    score: Callable[[Tensor], Tensor],
    unet: nn.Module,
    *,
    scale: float,
    alpha_bars: Tensor,
    objective: str,
) -> Guide:
    """Make a guide that raises a score of the (N, K, H, W) class probabilities of the x0 predicted from x_t."""
    device = next(unet.parameters()).device
    probabilities, space = _probabilities(bundle, device), space_of(unet)

    def guide(xt: Tensor, t: int) -> Tensor:
        # The samplers run in inference mode, whose tensors cannot have a gradient; copies can.
        with torch.inference_mode(False), torch.enable_grad():
            x = xt.clone().requires_grad_()
            times = torch.full((len(x),), t, device=x.device)
            output, _ = split_output(unet(x, times).float(), channels=x.shape[1])
            x0, _ = predict_x0_and_noise(output, x, alpha_bars[t].to(x), objective=objective, limit=space.limit)
            wanted = score(probabilities(as_channels(space.decode(x0), 3)))
            (gradient,) = torch.autograd.grad(wanted, x)
        return scale * gradient

    return guide


def _probabilities(bundle: Bundle, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return the function from (N, 3, H, W) images to (N, K, H, W) class probabilities, with a gradient."""
    assert not isinstance(bundle.interpreter, SegDiff), "refused by class_to_guide"
    interpreter = bundle.interpreter.to(device)
    if isinstance(interpreter, Decoder):
        decoder = interpreter
        return lambda pictures: decoder(pictures).softmax(1)
    if isinstance(interpreter, Student):
        student = interpreter
        return lambda pictures: student(pictures)[:, : student.classes].softmax(1)
    mlps = interpreter
    extractor = FeatureExtractor(
        bundle.unet, bundle.architecture, bundle.features, device=device, encoder=bundle.encoder
    )
    return lambda pictures: differentiable_probabilities(mlps, extractor.differentiable(pictures)).mean(0)
