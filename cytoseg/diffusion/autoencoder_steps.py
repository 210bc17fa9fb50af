"""Training steps of an autoencoder."""

import torch
from accelerate import Accelerator
from torch import Tensor

from cytoseg.diffusion.learning import CropLosses, Learning
from cytoseg.diffusion.settings import TrainSettings
from cytoseg.diffusion.space_settings import LATENT_CHANNELS
from cytoseg.diffusion.state import TrainState
from cytoseg.seeds import generator_for


def draw_latent_noise(numbers: Tensor, *, seed: int, size: tuple[int, int]) -> Tensor:
    """Draw the noise of crops' latents, each as a function of (seed, number) only: (N, channels, h, w) on the CPU."""
    streams = (generator_for(seed, number, what="latent") for number in numbers.tolist())
    return torch.stack([torch.randn(LATENT_CHANNELS, *size, generator=stream) for stream in streams])


def autoencoder_learning(state: TrainState, settings: TrainSettings, accelerator: Accelerator) -> Learning:
    """Prepare the training of an autoencoder and its discriminator, which learn at the same time.

    Args:
        state: From ``new_state``, of an autoencoder.
        settings: Training settings; the discriminator takes part after ``adversarial_from`` crops.
        accelerator: From ``new_accelerator``.
    """
    model, optimiser = accelerator.prepare(state.unet, state.optimiser)
    space, begin = state.architecture.space, settings.adversarial_from

    def losses_of(numbers: Tensor, x0: Tensor) -> CropLosses:
        judged = begin is not None and state.crops_seen >= begin
        height, width = (side // space.factor for side in x0.shape[-2:])
        eps = draw_latent_noise(numbers, seed=settings.seed, size=(height, width))
        pictures, noise = (tensor.to(accelerator.device, non_blocking=True) for tensor in (x0, eps))
        total, losses, telling = model(pictures.contiguous(memory_format=torch.channels_last), noise, judged=judged)
        t = torch.zeros(len(x0), dtype=torch.int64, device=accelerator.device)
        return CropLosses(t, losses, None if begin is None else telling, total.sum())

    return Learning(model, optimiser, torch.ones(1), losses_of, in_passing=space.kind == "vq")
