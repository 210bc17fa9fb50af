"""Architecture of a backbone, and the names and shapes of its taps."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from cytoseg.diffusion.adm_settings import AdmSettings, adm_from_json
from cytoseg.diffusion.settings import DiffusionSection
from cytoseg.diffusion.space_settings import LATENT_CHANNELS, PIXELS, SpaceShape, space_from_json
from cytoseg.errors import CheckpointError, RecipeError

TAP_PARTS: Mapping[str, tuple[str, ...]] = {
    "lucidrains": ("block1", "block2", "attention", "upsample"),
    "pretrained": ("block1", "block2"),
    "adm": ("output",),
}
"""Tappable tensors of a decoder block by backbone, in order of computation."""
PRETRAINED_LEVELS = 3
"""Decoder blocks of the pretrained backbone: to 1/4, 1/2 and full resolution."""
STAGE_CHANNELS = (16, 24, 40, 80, 112)
"""Channels of the five stages of EfficientNet-Lite0, finest first."""
STAGE_DOWNSAMPLE = (2, 4, 8, 16, 16)
"""Downsample of each stage."""
_PRETRAINED_MULTIPLE_PX = 8
_CHOICES: Mapping[str, tuple[Any, ...]] = {
    name: get_args(DiffusionSection.__annotations__[name]) for name in ("backbone", "schedule", "objective")
}
_ALWAYS_WRITTEN = ("dim", "dim_mults", "timesteps", "schedule", "objective")
_OF_ADM = ("adm", "learn_variance")
_OF_MAP = ("condition", "map_classes")
_MAX_VALUE = 100_000  # of channels, multipliers and timesteps
_MAX_UPSAMPLING = 16


@dataclass(frozen=True, kw_only=True)
class Architecture(DiffusionSection):
    """Everything that determines the shapes and meaning of the weights: the section and the mask head.

    Attributes:
        mask_classes: Class names of the mask head of ``pretrained``; empty without a head.
        map_classes: Class names of the map that the network is conditioned on; empty without.
        space: The space that it works in.
        part: The noise predictor, or the autoencoder of its space; of the latter only channels and space matter.
    """

    mask_classes: tuple[str, ...] = ()
    map_classes: tuple[str, ...] = ()
    space: SpaceShape = PIXELS
    part: Literal["unet", "autoencoder"] = "unet"

    def as_json(self) -> dict[str, Any]:
        """Return the values as JSON, without usual ones and those that the backbone or a missing map does not use."""
        left_out = (*(() if self.backbone == "adm" else _OF_ADM), *(() if self.map_classes else _OF_MAP))
        usual = {"channels": 3, "upsample": 1, "space": asdict(PIXELS), "part": "unet"}
        values = self.values().items()
        return {k: v for k, v in values if k not in left_out and not (k in usual and usual[k] == v)}

    def values(self) -> dict[str, Any]:
        """Return all values as JSON, except the source of small images, which does not affect the weights."""
        lists = {key: list(getattr(self, key)) for key in ("dim_mults", "mask_classes", "map_classes")}
        values = {**asdict(self), **lists}
        values["adm"]["attention"] = list(self.adm.attention)
        del values["upsample_from"]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Architecture":
        """Parse the result of ``as_json``, also of versions without mask heads.

        Raises:
            LookupError, TypeError, ValueError, AttributeError: If it is not an architecture.
        """
        missing = [key for key in _ALWAYS_WRITTEN if key not in values]
        if missing:  # the recipe's defaults must not replace it
            raise LookupError(missing[0])
        names = {key: tuple(values.get(key, ())) for key in ("mask_classes", "map_classes")}
        parts = {
            "dim_mults": tuple(values["dim_mults"]),
            "adm": adm_from_json(values["adm"]) if "adm" in values else AdmSettings(),
            "space": space_from_json(values["space"]) if "space" in values else PIXELS,
        }
        found = cls(**{**values, **names, **parts})
        numbers = (found.dim, found.timesteps, found.channels, *found.dim_mults)
        if not all(type(number) is int and 0 < number <= _MAX_VALUE for number in numbers) or len(found.dim_mults) > 16:
            raise ValueError("not an architecture")
        if found.channels not in (1, 3) or found.part not in ("unet", "autoencoder"):
            raise ValueError("not an architecture")
        if type(found.upsample) is not int or not 1 <= found.upsample <= _MAX_UPSAMPLING:
            raise ValueError("not an architecture")
        if (found.condition, bool(found.map_classes)) not in (("none", False), ("map", True)):
            raise ValueError("not an architecture")
        texts = (*found.mask_classes, *found.map_classes)
        if not all(isinstance(text, str) for text in texts) or type(found.learn_variance) is not bool:
            raise ValueError("not an architecture")
        if not all(getattr(found, name) in choices for name, choices in _CHOICES.items()):
            raise ValueError("not an architecture")
        return found

    @property
    def multiple_px(self) -> int:
        """Height and width of the input must be multiples of this many pixels."""
        if self.part == "autoencoder":
            return self.space.downsample
        if self.backbone == "pretrained":
            return _PRETRAINED_MULTIPLE_PX
        return int(2 ** (len(self.dim_mults) - 1)) * self.space.downsample

    @property
    def diffused_channels(self) -> int:
        """Channels of what the network denoises."""
        return LATENT_CHANNELS if self.space.is_latent else self.channels

    @property
    def given_channels(self) -> int:
        """Channels of the conditioning (a class map, a small image), the last for unknown."""
        if self.map_classes:
            return len(self.map_classes) + 1
        return self.channels + 1 if self.upsample > 1 else 0

    @property
    def command(self) -> str:
        """The command that trains it."""
        return "train-ddpm" if self.part == "unet" else "train-autoencoder"

    @property
    def other_loss(self) -> str:
        """Name of the second loss of its training."""
        return "mask loss" if self.part == "unet" else "discriminator loss"

    def of_autoencoder(self) -> "Architecture":
        """Return the architecture of the autoencoder of its space."""
        return Architecture(channels=self.channels, space=self.space, part="autoencoder")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each resolution of the decoder, finest first."""
        return tuple(self.dim * mult for mult in self.dim_mults)

    @property
    def finest_channels(self) -> int:
        """Channels of the last features, at the input's own resolution."""
        return self.dim if self.backbone == "lucidrains" else self.widths[0]

    @property
    def decoder_blocks(self) -> int:
        """Blocks of the decoder that can be tapped."""
        levels = len(self.dim_mults)
        return levels * (self.adm.blocks + 1) if self.backbone == "adm" else levels


def check_same(found: Architecture, wanted: Architecture, *, where: str) -> None:
    """Compare a checkpoint's architecture with the recipe's; the mask head may differ.

    Raises:
        CheckpointError: If they differ; names each differing value.
    """
    a, b = found.values(), wanted.values()
    of_autoencoder = {"channels", "space", "part"}
    compared = of_autoencoder if found.part == wanted.part == "autoencoder" else {*b} - {"mask_classes"}
    differ = [f"{k} {a[k]} there, {b[k]} in the recipe" for k in b if a[k] != b[k] and k in compared]
    if differ:
        raise CheckpointError(
            f"{where}: the checkpoint has a different architecture ({'; '.join(differ)}). "
            "Use its recipe or another run folder."
        )


def start_architecture(wanted: Architecture, found: Architecture) -> Architecture:
    """Return the architecture required of a model to start from; it may lack class maps and small images."""
    if found.condition == "none":
        wanted = replace(wanted, condition="none", map_classes=())
    return wanted if found.upsample > 1 else replace(wanted, upsample=1)


def tap_names(architecture: Architecture) -> tuple[str, ...]:
    """Return the names of all taps, deepest block first: ``block0.block1``, ..., ``block3.upsample``."""
    parts = TAP_PARTS[architecture.backbone]
    return tuple(f"block{i}.{part}" for i in range(architecture.decoder_blocks) for part in parts)


def tap_shapes(architecture: Architecture, names: Sequence[str]) -> list[tuple[int, int]]:
    """Return (channels, downsample) of each tap; downsample 8 is one value per 8x8 input pixels.

    Raises:
        RecipeError: If a name is not a tap of this architecture.
    """
    known = tap_names(architecture)
    unknown = [n for n in names if n not in known]
    if unknown:
        raise RecipeError(f"features.taps: {', '.join(unknown)} not in this network. It has {', '.join(known)}.")
    shape_of = {"pretrained": _pretrained_shape, "adm": _adm_shape}.get(architecture.backbone, _lucidrains_shape)
    shapes = (shape_of(architecture, *split_tap(name)) for name in names)
    return [(channels, downsample * architecture.space.downsample) for channels, downsample in shapes]


def split_tap(name: str) -> tuple[int, str]:
    """Split a tap's name into block number and part."""
    block, part = name.split(".")
    return int(block.removeprefix("block")), part


def _lucidrains_shape(architecture: Architecture, block: int, part: str) -> tuple[int, int]:
    channels = [architecture.dim * m for m in reversed((1, *architecture.dim_mults))]
    depth = len(architecture.dim_mults)
    last, up = block == depth - 1, part == "upsample"
    return channels[block + up], 2 ** (depth - 1 - block - (up and not last))


def _pretrained_shape(architecture: Architecture, block: int, _part: str) -> tuple[int, int]:
    finer = PRETRAINED_LEVELS - 1 - block
    return architecture.widths[finer], 2**finer


def _adm_shape(architecture: Architecture, block: int, _part: str) -> tuple[int, int]:
    """Return the shape of a whole stage; the last stage of each resolution, except the finest, ends by doubling it."""
    level, place = divmod(block, architecture.adm.blocks + 1)
    finer = len(architecture.dim_mults) - 1 - level
    doubles = finer > 0 and place == architecture.adm.blocks
    return architecture.widths[finer], 2 ** (finer - doubles)
