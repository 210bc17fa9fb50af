"""Training steps of an autoencoder."""

import torch
from accelerate import Accelerator
from torch import Tensor

from cytoseg.devices import generator_for
from cytoseg.diffusion.learning import Learning, PartLosses, StepLosses, accumulate
from cytoseg.diffusion.settings import TrainSettings
from cytoseg.diffusion.space_settings import LATENT_CHANNELS
from cytoseg.diffusion.state import TrainState


def draw_latent_noise(numbers: Tensor, *, seed: int, size: tuple[int, int]) -> Tensor:
    """Draw the noise of crops' latents, each as a function of (seed, number) only: (N, channels, h, w) on the CPU."""
    streams = (generator_for(seed, number, what="latent") for number in numbers.tolist())
    return torch.stack([torch.randn(LATENT_CHANNELS, *size, generator=stream) for stream in streams])


def autoencoder_learning(state: TrainState, settings: TrainSettings, accelerator: Accelerator) -> Learning:
    """Prepare the training of an autoencoder and its discriminator, which learn at the same time.

    Args:
        state: From ``new_state``, of an autoencoder.
        settings: Training settings; ``adversarial_from`` says from when the discriminator takes part.
        accelerator: From ``new_accelerator``.
    """
    model, optimiser = accelerator.prepare(state.unet, state.optimiser)
    space, begin = state.architecture.space, settings.adversarial_from

    def backward(numbers: Tensor, x0: Tensor) -> StepLosses:
        judged = begin is not None and state.crops_seen >= begin
        height, width = (side // space.factor for side in x0.shape[-2:])
        eps = draw_latent_noise(numbers, seed=settings.seed, size=(height, width))

        def losses_of(part: tuple[Tensor, ...]) -> PartLosses:
            pictures, noise = (tensor.to(accelerator.device, non_blocking=True) for tensor in part)
            pictures = pictures.contiguous(memory_format=torch.channels_last)
            total, losses, telling = model(pictures, noise, judged=judged)
            return total.sum(), losses, None if begin is None else telling

        parts = list(zip(*(torch.split(tensor, settings.together) for tensor in (x0, eps)), strict=True))
        losses, others = accumulate(model, parts, losses_of, count=len(x0), accelerator=accelerator)
        return torch.zeros(len(x0), dtype=torch.int64, device=accelerator.device), losses, others

    return Learning(model, optimiser, torch.ones(1), backward, in_passing=space.kind == "vq")
