"""An ensemble with non-default values, and the same interpreters as plain torch modules."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cytoseg.interpreter.mlp import Ensemble, MemberNorm


def _stir(ensemble: Ensemble, generator: torch.Generator) -> None:
    """Give every bias, normalisation and statistic a value of its own, as if it had been trained."""
    tensors = dict(ensemble.named_parameters()) | dict(ensemble.named_buffers())
    for name, tensor in tensors.items():
        drawn = torch.rand(tensor.shape, generator=generator)
        if name.endswith(("scale", "running_var", "norm1.weight", "norm2.weight")):
            tensor.copy_(0.5 + drawn)
        elif not name.startswith("weight"):
            tensor.copy_(drawn - 0.5)


@pytest.fixture(scope="session")
def make_ensemble() -> Callable[..., Ensemble]:
    """Make an ensemble in evaluation mode that looks trained."""

    @torch.no_grad()
    def make(members: int, inputs: int, classes: int) -> Ensemble:
        ensemble = Ensemble(members, inputs, classes, seed=2)
        _stir(ensemble, torch.Generator().manual_seed(7))
        return ensemble.eval()

    return make


@torch.no_grad()
def _norm(norm: MemberNorm, m: int) -> nn.BatchNorm1d:
    plain = nn.BatchNorm1d(norm.weight.shape[1])
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(plain, name).copy_(getattr(norm, name)[m])
    return plain


@torch.no_grad()
def _linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    plain = nn.Linear(*weight.shape)
    plain.weight.copy_(weight.T)
    plain.bias.copy_(bias)
    return plain


@pytest.fixture(scope="session")
def plain_member() -> Callable[[Ensemble, int], nn.Sequential]:
    """Copy member m into torch's own layers, in the mode of the ensemble; takes standardised features (B, D)."""

    def make(ensemble: Ensemble, m: int) -> nn.Sequential:
        plain = nn.Sequential(
            _linear(ensemble.weight1[m], ensemble.bias1[m]),
            nn.ReLU(),
            _norm(ensemble.norm1, m),
            _linear(ensemble.weight2[m], ensemble.bias2[m]),
            nn.ReLU(),
            _norm(ensemble.norm2, m),
            _linear(ensemble.weight3[m], ensemble.bias3[m]),
        )
        return plain.train(ensemble.training)

    return make
