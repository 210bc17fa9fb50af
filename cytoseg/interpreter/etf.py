"""Simplex (ETF) regulariser of the last hidden activations."""

import math

import torch
from torch import Tensor

from cytoseg.seeds import generator_for


def simplex(width: int, classes: int, *, seed: int, member: int) -> Tensor:
    """Build a randomly rotated simplex equiangular tight frame (ETF).

    M = sqrt(K / (K - 1)) U (I - 11' / K) with orthonormal columns of U. It is not trained.

    Args:
        width: d, channels of the last hidden layer.
        classes: K, at most d.
        seed: Seed of the rotation.
        member: Index of the interpreter; each has its own rotation.

    Returns:
        (d, K) float32; the columns have length 1 and pairwise cosine -1 / (K - 1).

    Raises:
        ValueError: If there are more classes than channels.

    Source: Papyan et al., Prevalence of neural collapse, PNAS 2020.
    """
    if classes > width:
        raise ValueError(f"a simplex of {classes} classes does not fit in {width} channels")
    drawn = torch.randn(width, classes, generator=generator_for(seed, member, what="simplex"))
    orthonormal = torch.linalg.qr(drawn).Q
    centred: Tensor = orthonormal - orthonormal.mean(1, keepdim=True)
    return centred * math.sqrt(classes / (classes - 1))
