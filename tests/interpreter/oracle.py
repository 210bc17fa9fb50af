"""Dense reference implementation of the published method.

Every tap is upsampled to full size, the timesteps are joined, and each interpreter is torch's own layers, trained
alone. Only the random numbers are given to it: noise, first weights, the order of pixels.

Source: Baranchuk et al., Label-Efficient Semantic Segmentation with Diffusion Models, ICLR 2022.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPOCHS, FREE_EPOCHS, PATIENCE = 100, 4, 50
RATE, BATCH_PX, WEIGHT_STD = 1e-3, 64, 0.02


def tapped_maps(unet: nn.Module, taps: Sequence[str], xt: Tensor, t: int) -> list[Tensor]:
    """One forward pass; the tensors that leave the named places of the decoder, in the order of the names."""
    parts = {"block1": 0, "block2": 1, "upsample": 3}
    found: dict[str, Tensor] = {}
    handles = []
    for name in taps:
        block, part = name.removeprefix("block").split(".")
        modules = unet.ups[int(block)]
        if part == "attention":  # with its residual, so it is read where the next module takes it in
            hook = modules[3].register_forward_pre_hook(lambda _m, seen, name=name: found.update({name: seen[0]}))
        else:
            hook = modules[parts[part]].register_forward_hook(lambda _m, _i, out, name=name: found.update({name: out}))
        handles.append(hook)
    unet(xt, torch.full((len(xt),), t))
    for handle in handles:
        handle.remove()
    return [found[name] for name in taps]


@torch.no_grad()
def dense_features(
    unet: nn.Module, x0: Tensor, taps: Sequence[str], timesteps: Sequence[int], *, alpha_bars: Tensor, eps: Tensor
) -> Tensor:
    """The whole feature stack of images whose sides the network can halve: (N, D, H, W)."""
    stack = []
    for t in timesteps:
        xt = (alpha_bars[t].sqrt() * x0 + (1 - alpha_bars[t]).sqrt() * eps).float()
        stack.append(upsampled(tapped_maps(unet, taps, xt, t), x0.shape[-2:]))
    return torch.cat(stack, dim=1)


def upsampled(maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Every map at full size, joined: (N, D, H, W)."""
    return torch.cat([F.interpolate(m, tuple(size), mode="bilinear", align_corners=False) for m in maps], dim=1)


def pixels_of(stack: Tensor) -> Tensor:
    """(N, D, H, W) to one row for each pixel, rows of an image first: (N * H * W, D)."""
    return stack.permute(0, 2, 3, 1).reshape(-1, stack.shape[1])


def interpreter(inputs: int, classes: int) -> nn.Sequential:
    """One per-pixel MLP with the published first weights."""
    wide, narrow = (128, 32) if classes < 30 else (256, 128)
    layers = nn.Sequential(
        nn.Linear(inputs, wide),
        nn.ReLU(),
        nn.BatchNorm1d(wide),
        nn.Linear(wide, narrow),
        nn.ReLU(),
        nn.BatchNorm1d(narrow),
        nn.Linear(narrow, classes),
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, WEIGHT_STD)
            nn.init.zeros_(layer.bias)
    return layers


def batches(pixels: int, generator: torch.Generator) -> Iterator[list[Tensor]]:
    """The batches of each epoch: all pixels in a new order, the last batch smaller."""
    for _ in range(EPOCHS):
        yield list(torch.randperm(pixels, generator=generator).split(BATCH_PX))


@dataclass
class StopRule:
    """From the fifth epoch on, stop after more than fifty batches in a row whose loss is not a new best."""

    best: float = 10_000_000.0
    in_vain: int = 0
    losses: list[float] = field(default_factory=list)

    def stops(self, epoch: int, loss: float) -> bool:
        self.losses.append(loss)
        if epoch < FREE_EPOCHS:
            return False
        if loss < self.best:
            self.best, self.in_vain = loss, 0
        else:
            self.in_vain += 1
        return self.in_vain > PATIENCE


def train(model: nn.Sequential, x: Tensor, y: Tensor, epochs: Iterable[Sequence[Tensor]]) -> list[float]:
    """Train one interpreter; gives the loss of each batch."""
    optimiser, rule = torch.optim.Adam(model.parameters(), lr=RATE), StopRule()
    model.train()
    for epoch, order in enumerate(epochs):
        for batch in order:
            optimiser.zero_grad()
            loss = F.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimiser.step()
            if rule.stops(epoch, loss.item()):
                return rule.losses
    return rule.losses


def soft_vote(probabilities: Tensor) -> list[int]:
    """(M, P, K) to the class of each pixel: the greatest sum of probabilities."""
    return [int(probabilities[:, p].sum(0).argmax()) for p in range(probabilities.shape[1])]


def hard_vote(probabilities: Tensor) -> list[int]:
    """(M, P, K) to the class of each pixel: the most frequent choice.

    Of equally frequent ones the published code takes the smallest id; ours, and this, the more probable one.
    """
    found = []
    for p in range(probabilities.shape[1]):
        choices = Counter(int(member.argmax()) for member in probabilities[:, p])
        mean = probabilities[:, p].mean(0)
        found.append(max(choices, key=lambda k, choices=choices, mean=mean: (choices[k], float(mean[k]))))
    return found
