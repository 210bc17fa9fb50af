"""Bundles: saved interpreters or decoders, self-contained for prediction."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoseg.checkpoints import MISFIT, STATE, Checkpoint, load_checkpoint, load_state, network_with, save_checkpoint
from cytoseg.classes import ClassList, SavedClasses
from cytoseg.diffusion.architecture import Architecture, tap_names
from cytoseg.diffusion.efficientnet import LiteEncoder
from cytoseg.diffusion.settings import TrainingSection
from cytoseg.diffusion.unet import build_unet
from cytoseg.errors import CheckpointError, DamagedError
from cytoseg.features.extract import FeatureExtractor, pixels_per_pass, to_input
from cytoseg.features.settings import FeatureSettings, Scale
from cytoseg.interpreter.decoder import Decoder, view_probabilities
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.native_inference import member_probabilities
from cytoseg.interpreter.segdiff import TIMESTEPS, SegDiff, drawn_probabilities
from cytoseg.interpreter.student import Student, student_maps
from cytoseg.interpreter.vote import RULES, jensen_shannon, vote
from cytoseg.quoting import short_repr
from cytoseg.records import RecordFile

_TRAIN_AGAIN = "Run `cytoseg train-interpreter` again."


Interpreter = Ensemble | Decoder | Student | SegDiff


@dataclass(frozen=True)
class Bundle:
    """Everything prediction needs.

    Attributes:
        unet: The noise predictor with averaged weights, in evaluation mode, or that of the decoder; without weights for
            a student, SegDiff, and MLPs without its features.
        architecture: Architecture of the network.
        interpreter: The MLPs, which include mean and scale of their features, or a network; in evaluation mode.
        features: Taps, timesteps, scale, noise seed, extractors; unused by the decoder.
        classes: Names and colours.
        mpp: Micrometres per pixel in training, or None for level 0.
        vote: Name of the voting rule of ``vote.vote``, for members or views.
        precision: Precision of the network, the same as in training.
        origin: Provenance: hashes of backbone and labels, recipe, versions.
        recipe: The whole recipe, as JSON, so that slides can be predicted without its file.
        encoder: The frozen network of the extractor ``pretrained``, included so that prediction needs no extra package;
            None without it.
    """

    unet: nn.Module
    architecture: Architecture
    interpreter: Interpreter
    features: FeatureSettings
    classes: ClassList
    mpp: float | None
    vote: str
    precision: str
    origin: dict[str, Any]
    recipe: dict[str, Any] = field(default_factory=dict)
    encoder: LiteEncoder | None = None


@dataclass(frozen=True)
class _Features:
    taps: tuple[str, ...]
    timesteps: tuple[Annotated[int, Ge(0)], ...]
    scale: Scale
    noise_seed: Annotated[int, Ge(0)]
    extractors: tuple[str, ...] | None = None
    filters: bool = False


@dataclass(frozen=True)
class _Draws:
    votes: Annotated[int, Ge(1), Le(1000)]
    draw_steps: Annotated[int, Ge(1), Le(TIMESTEPS)]


@dataclass(frozen=True)
class _State:
    """What state.json of a bundle holds; ``members`` is the number of MLPs, None for a decoder or student."""

    kind: Literal["bundle"]
    architecture: dict[str, Any]
    vote: str
    precision: str
    origin: dict[str, Any]
    mpp: Annotated[float, Gt(0), Lt(1000)] | None
    features: _Features
    classes: SavedClasses
    recipe: dict[str, Any] = field(default_factory=dict)  # older bundles have none
    segdiff: _Draws | None = None
    members: int | None = None

    def __post_init__(self) -> None:
        if self.vote not in RULES:
            raise ValueError(f"vote {self.vote!r}")
        if self.precision not in get_args(TrainingSection.__annotations__["precision"]):
            raise ValueError(f"precision {self.precision!r}")


_STATE = RecordFile(_State, DamagedError, _TRAIN_AGAIN)


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write the bundle atomically.

    Raises:
        CheckpointError: If it cannot be written.
    """
    if isinstance(bundle.interpreter, SegDiff):
        tensors = {"segdiff": bundle.interpreter.state_dict()}
    elif isinstance(bundle.interpreter, Student):
        tensors = {"student": bundle.interpreter.state_dict()}
    elif isinstance(bundle.interpreter, Decoder):
        tensors = {"decoder": bundle.interpreter.state_dict()}
    else:
        tensors = {"ensemble": bundle.interpreter.state_dict()}
        if "ddpm" in bundle.features.extractors:
            tensors["backbone"] = bundle.unet.state_dict()
        if bundle.encoder is not None:
            tensors["encoder"] = bundle.encoder.state_dict()
    save_checkpoint(folder, tensors, _STATE.content_of(_state_of(bundle), without_defaults=True))


def _state_of(bundle: Bundle) -> _State:
    trained = bundle.interpreter
    return _State(
        kind="bundle",
        architecture=bundle.architecture.as_json(),
        features=_Features(**asdict(bundle.features)),
        classes=SavedClasses(**asdict(bundle.classes)),
        mpp=bundle.mpp,
        vote=bundle.vote,
        precision=bundle.precision,
        origin=bundle.origin,
        recipe=bundle.recipe,
        segdiff=_Draws(trained.votes, trained.draw_steps) if isinstance(trained, SegDiff) else None,
        members=trained.members if isinstance(trained, Ensemble) else None,
    )


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle.

    Raises:
        CheckpointError: If it is missing, damaged or not a bundle.
    """
    bundle_state(folder)
    checkpoint = load_checkpoint(folder, instead=_TRAIN_AGAIN)
    try:
        return _bundle_of(checkpoint)
    except MISFIT as error:  # the state does not match the weights
        raise _unusable(folder, error) from error


def _bundle_of(checkpoint: Checkpoint) -> Bundle:
    state = _STATE.record_of(checkpoint.state)
    architecture = Architecture.from_json(state.architecture)
    classes, features = state.classes.class_list(), _features_of(state.features, architecture)
    if state.segdiff is not None:
        unet: nn.Module = nn.Identity()
        interpreter: Interpreter = _segdiff_of(checkpoint, state.segdiff, len(classes))
    else:
        unet, interpreter = _networks_of(checkpoint, state.members, architecture, features, len(classes))
    encoder = None
    if isinstance(interpreter, Ensemble) and "pretrained" in features.extractors:
        encoder = cast(LiteEncoder, network_with(LiteEncoder, checkpoint.tensors["encoder"])).eval()
    return Bundle(
        unet.eval(),
        architecture,
        interpreter.eval(),
        features,
        classes,
        state.mpp,
        state.vote,
        state.precision,
        state.origin,
        state.recipe,
        encoder,
    )


def _segdiff_of(checkpoint: Checkpoint, draws: _Draws, classes: int) -> SegDiff:
    build = partial(SegDiff, classes, seed=0, votes=draws.votes, draw_steps=draws.draw_steps)
    found = cast(SegDiff, network_with(build, checkpoint.tensors["segdiff"]))
    if not bool(found.seen.any()):
        raise ValueError("every class is ruled out")
    return found


def _networks_of(
    checkpoint: Checkpoint, members: int | None, architecture: Architecture, features: FeatureSettings, classes: int
) -> tuple[nn.Module, Ensemble | Decoder | Student]:
    if "student" in checkpoint.tensors:
        student = cast(Student, network_with(partial(Student, classes, seed=0), checkpoint.tensors["student"]))
        return nn.Identity(), student
    if "decoder" in checkpoint.tensors:
        build = partial(_decoder, architecture, classes)
        decoder = cast(Decoder, network_with(build, checkpoint.tensors["decoder"]))
        return decoder.unet, decoder
    unet: nn.Module = nn.Identity()
    if "ddpm" in features.extractors:
        unet = network_with(partial(build_unet, architecture), checkpoint.tensors["backbone"])
    named = checkpoint.tensors["ensemble"]
    if members is None or members != len(named["weight1"]):  # each member is initialised before its weights are loaded
        raise ValueError(f"{short_repr(members)} members, weights of {len(named['weight1'])}")
    if not bool((named["scale"] > 0).all()):  # features are divided by it
        raise ValueError("the scale of a feature is 0")
    build_ensemble = partial(Ensemble, members, len(named["mean"]), classes, seed=0)
    return unet, cast(Ensemble, network_with(build_ensemble, named))


def _decoder(architecture: Architecture, classes: int) -> Decoder:
    return Decoder(build_unet(architecture), architecture, classes, seed=0)


def _features_of(found: _Features, architecture: Architecture) -> FeatureSettings:
    extractors: Any = found.extractors
    if extractors is None:  # older bundles only state whether filters are included
        extractors = ("ddpm", "filters") if found.filters else ("ddpm",)
    distinct = set(found.timesteps)
    if not all(timestep < architecture.timesteps for timestep in distinct) or len(distinct) < len(found.timesteps):
        raise ValueError("the timesteps of the features")
    if not set(found.taps) <= set(tap_names(architecture)) or len(set(found.taps)) < len(found.taps):
        raise ValueError("the taps of the features")
    return FeatureSettings(found.taps, found.timesteps, found.scale, found.noise_seed, extractors)


def _unusable(folder: Path, error: Exception) -> DamagedError:
    found = " ".join(f"{type(error).__name__}: {error}".split())[:120]
    return DamagedError(f"{folder / STATE}: damaged, or of a different version ({found}). {_TRAIN_AGAIN}")


def bundle_state(folder: Path) -> dict[str, Any]:
    """Read the state of a bundle without its weights.

    Raises:
        CheckpointError: If it is missing, damaged or not a bundle.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no bundle yet. Run `cytoseg train-interpreter` with this recipe first.")
    state = load_state(folder, instead=_TRAIN_AGAIN)
    if state.get("kind") != "bundle":
        raise CheckpointError(
            f"{folder}: this is a training checkpoint, but segmentation needs a bundle. Run `cytoseg "
            "train-interpreter` and "
            "give the recipe, or the folder interpreter/bundle of its run."
        )
    try:
        _STATE.record_of(state)
    except MISFIT as error:
        raise _unusable(folder, error) from error
    return state


def bundle_hashes(folder: Path) -> dict[str, str]:
    """Return the content hashes of a saved bundle's weights.

    Raises:
        CheckpointError: If it is missing, damaged or not a bundle.
    """
    return dict(bundle_state(folder)["sha256"])


class EnsemblePredictor:
    """Segments tiles with a bundle: (N, H, W, 3) uint8 in, named maps out.

    Args:
        bundle: The bundle.
        device: Where to compute.
    """

    def __init__(self, bundle: Bundle, *, device: torch.device) -> None:
        self._maps = _maps_of(bundle, device)
        self._architecture, self._scale, self._device = bundle.architecture, bundle.features.scale, device
        self.classes, self.origin = bundle.classes, bundle.origin

    def tiles_at_once(self, side_px: int) -> int:
        """Return how many tiles of ``side_px`` fit in memory, at most 64; on a CPU, as many as fit its caches."""
        at_once = pixels_per_pass(self._architecture, self._device) // (side_px * self._scale) ** 2
        return max(1, min(64, int(at_once)))

    def __call__(self, tiles: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        """Predict tiles.

        Returns:
            ``probabilities`` (N, K, H, W) float32 and ``disagreement`` (N, H, W) float32 in nats.
        """
        probabilities, disagreement = self._maps(to_input(tiles))
        return {"probabilities": probabilities.cpu().numpy(), "disagreement": disagreement.cpu().numpy()}


def _maps_of(bundle: Bundle, device: torch.device) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return the function from (N, 3, H, W) images in [-1, 1] to probabilities and disagreement."""
    if isinstance(bundle.interpreter, Student):
        student, precision = bundle.interpreter.to(device), bundle.precision
        return lambda pictures: student_maps(student, pictures.to(device), precision=precision)
    members_of = _members_of(bundle, bundle.interpreter, device)

    def voted(pictures: Tensor) -> tuple[Tensor, Tensor]:
        members = members_of(pictures)
        return vote(members, rule=bundle.vote), jensen_shannon(members)

    return voted


def _members_of(
    bundle: Bundle, interpreter: Ensemble | Decoder | SegDiff, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Return the function from (N, 3, H, W) images in [-1, 1] to (M, N, K, H, W) probabilities of all voters."""
    interpreter, precision = interpreter.to(device), bundle.precision
    if isinstance(interpreter, SegDiff):
        segdiff = interpreter
        return lambda pictures: drawn_probabilities(segdiff, pictures.to(device), precision=precision)
    if isinstance(interpreter, Decoder):
        decoder = interpreter
        return lambda pictures: view_probabilities(decoder, pictures.to(device), precision=precision)
    extract = FeatureExtractor(
        bundle.unet,
        bundle.architecture,
        bundle.features,
        device=device,
        precision=precision,
        encoder=bundle.encoder,
    )
    mlps = interpreter
    return lambda pictures: member_probabilities(mlps, extract(pictures), precision=precision)
