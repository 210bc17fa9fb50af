"""Reading weight files of guided-diffusion, such as LSUN and FFHQ."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cytoseg.diffusion.adm import AdmShape, AdmUnet
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.errors import CheckpointError
from cytoseg.quoting import join_first, short_repr
from cytoseg.torch_files import read_torch_file

_MAX_STAGES = 100
_NO_ADM = "It is not a network in guided-diffusion's layout, with residual blocks."


@dataclass(frozen=True)
class GuidedDiffusion:
    """A network as read.

    Attributes:
        shape: Inferred from the tensors.
        weights: Name to float32 tensor, those of ``AdmUnet(shape)`` exactly.
    """

    shape: AdmShape
    weights: dict[str, Tensor]


def read_guided_diffusion(path: Path) -> GuidedDiffusion:
    """Read a network and infer its architecture; code in the file is never executed.

    Args:
        path: A ``.pt`` file: a dictionary of tensors as guided-diffusion saves it, of single or half precision.

    Raises:
        CheckpointError: If it is missing, holds anything but tensors, or tensors other than those of an unconditional
            network; names the first one that does not fit.
    """
    weights = _tensors(path)
    if "label_emb.weight" in weights:
        raise CheckpointError(
            f"{path}: a class-conditional network (label_emb.weight), which cannot be used for features or "
            "samples here. Take the unconditional file, such as lsun_bedroom.pt."
        )
    try:
        shape = _shape(weights)
    except (LookupError, ValueError, ArithmeticError) as error:
        missing = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path}: {missing}. {_NO_ADM}") from error
    _compare(weights, shape, path)
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise CheckpointError(f"{path}: a weight is NaN or infinite. The file is damaged: download it again.")
    return GuidedDiffusion(shape, {name: tensor.float() for name, tensor in weights.items()})


def _tensors(path: Path) -> dict[str, Tensor]:
    found = read_torch_file(path, advice="Download it again, from its authors' page.")
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"{path}: holds {short_repr(type(found).__name__)} instead of named tensors. {_NO_ADM}")
    strange = [key for key, value in found.items() if not isinstance(key, str) or not _is_weight(value)]
    if strange:
        raise CheckpointError(f"{path}: {short_repr(strange[0])} is not a tensor of floating-point numbers. {_NO_ADM}")
    return dict(found)


def _is_weight(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided


def _shape(weights: Mapping[str, Tensor]) -> AdmShape:
    """Infer the numbers from names and shapes; inconsistencies show when the names are compared."""
    width = weights["time_embed.0.weight"].shape[1]
    first = weights["input_blocks.0.0.weight"].shape
    stages = _count(weights, "output_blocks")
    ups = [i for i in range(stages) if _ends_by_upsampling(weights, i)]
    levels = len(ups) + 1
    if stages % levels or stages == levels:
        raise ValueError(f"{stages} output_blocks do not make {levels} resolutions")
    blocks = stages // levels - 1
    deepest_first = [_out_channels(weights, f"output_blocks.{level * (blocks + 1)}.0") for level in range(levels)]
    settings = AdmSettings(
        blocks=blocks,
        attention=_attention(weights, levels, blocks),
        conditioning="adagn" if _scales(weights) else "add",
        resample_in_blocks=not any(
            f"output_blocks.{i}.{child}.conv.weight" in weights for i in ups for child in (1, 2)
        ),
    )
    mults = tuple(channels // width for channels in reversed(deepest_first))
    if min(mults) < 1:
        raise ValueError(f"its channels {deepest_first} are not multiples of {width}")
    return AdmShape(width, mults, weights["out.2.weight"].shape[0], settings, in_channels=first[1])


def _attention(weights: Mapping[str, Tensor], levels: int, blocks: int) -> tuple[int, ...]:
    """Find the resolutions with attention; one below the coarsest means attention only in the middle."""
    of_levels = [f"output_blocks.{level * (blocks + 1)}.1.qkv.weight" for level in reversed(range(levels))]
    found = tuple(2**finer for finer, name in enumerate(of_levels) if name in weights)
    return found or ((2**levels,) if "middle_block.1.qkv.weight" in weights else ())


def _count(weights: Mapping[str, Tensor], stages: str) -> int:
    numbers = [int(found[1]) for name in weights if (found := re.match(rf"{stages}\.(\d{{1,4}})\.", name))]
    if not numbers or max(numbers) >= _MAX_STAGES:
        raise ValueError(f"it has no {stages}, or too many")
    return max(numbers) + 1


def _ends_by_upsampling(weights: Mapping[str, Tensor], stage: int) -> bool:
    """Return whether a stage of the decoder ends by doubling the resolution: it has one more child than its blocks."""
    ends = (f"output_blocks.{stage}.{child}.{part}.weight" for child in (1, 2) for part in ("in_layers.0", "conv"))
    return any(name in weights for name in ends)


def _out_channels(weights: Mapping[str, Tensor], block: str) -> int:
    return int(weights[f"{block}.out_layers.3.weight"].shape[0])


def _scales(weights: Mapping[str, Tensor]) -> bool:
    block = "middle_block.0"
    return weights[f"{block}.emb_layers.1.weight"].shape[0] == 2 * _out_channels(weights, block)


def _compare(weights: Mapping[str, Tensor], shape: AdmShape, path: Path) -> None:
    """Compare the names and shapes with those of the inferred network."""
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in AdmUnet(shape).state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = [f"{name} is missing" for name in wanted if name not in found]
    wrong += [f"{short_repr(name)} is unexpected" for name in found if name not in wanted]
    wrong += [f"{k} is {found[k]} instead of {wanted[k]}" for k in wanted if k in found and found[k] != wanted[k]]
    if wrong:
        raise CheckpointError(f"{path}: {join_first(wrong, max_parts=3)}. {_NO_ADM}")
