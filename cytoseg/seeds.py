"""Independent random seeds for each purpose and item."""

import hashlib

import torch


def seed_for(seed: int, index: int, *, what: str) -> int:
    """Derive an independent 32-bit seed for item ``index`` of one purpose, the same on every machine.

    Args:
        seed: The recipe's seed.
        index: Which crop, sample or member.
        what: The purpose, such as ``crop``, so that two purposes never share random numbers.
    """
    digest = hashlib.blake2b(f"{what}/{seed}/{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def generator_for(seed: int, index: int, *, what: str) -> torch.Generator:
    """Make a CPU generator for item ``index`` of one purpose (see ``seed_for``)."""
    return torch.Generator().manual_seed(seed_for(seed, index, what=what))
