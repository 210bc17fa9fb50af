"""Training state: checkpoints, resuming, export and loading."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from ema_pytorch import EMA
from torch import Tensor, nn

from cytoseg.checkpoints import (
    MISFIT,
    OLDER,
    STATE,
    Checkpoint,
    check_finite,
    crops_seen_of,
    find_checkpoints,
    is_checkpoint,
    load_checkpoint,
    load_optimiser,
    load_state,
    network_with,
    optimiser_tensors,
    save_checkpoint,
)
from cytoseg.diffusion.architecture import Architecture, check_same
from cytoseg.diffusion.unet import build_network, build_unet
from cytoseg.errors import CheckpointError, DamagedError
from cytoseg.records import RecordFile
from cytoseg.runs import versions
from cytoseg.writing import remove_folder

_Count = Annotated[int, Ge(0), Lt(2**53)]
DECISIVE = ("slides", "crops", "space", "diffusion", "training")
"""Recipe sections that determine the weights."""

FREE = (
    "crops",
    "init",
    "compile",
    "micro_batch",
    "checkpoint_crops",
    "keep_checkpoints",
    "keep_every",
    "look_crops",
    "workers",
    "device",
    "samples",
    "track",
    "upsample_from",
)
"""Keys of these sections that do not: length, memory, saving and previews."""

MASK_HEAD = "mask_head."
"""Name prefix of the mask head's weights, which features do not need."""


@dataclass(frozen=True)
class TrainingRecord:
    """What state.json of a training's checkpoint holds; models that were exported or imported cannot be resumed.

    Attributes:
        crops_seen: Crops seen by the network.
        architecture: From ``Architecture.as_json``.
        ema_step: Steps of the moving average; None in a model that cannot be resumed.
        versions: From ``cytoseg.runs.versions``.
        recipe: The recipe as JSON; empty in older checkpoints.
        slides: Digest of the slides that the crops come from, or None if it was not stored.
        started_from: See ``TrainState``.
        maps_from: Digest of the source of class maps; None if there is none, or it was not stored.
    """

    crops_seen: _Count
    architecture: dict[str, Any]
    ema_step: _Count | None = None
    versions: dict[str, str] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    slides: str | None = None
    started_from: dict[str, Any] | None = None
    maps_from: str | None = None

    def __post_init__(self) -> None:
        """Refuse a recipe without the sections that are compared on resuming.

        Raises:
            ValueError: If one of its sections is not a mapping.
        """
        if not all(isinstance(self.recipe.get(section, {}), dict) for section in DECISIVE):
            raise ValueError("it has no recipe")

    def as_json(self) -> dict[str, Any]:
        """Return the content of state.json without what ``save_checkpoint`` adds."""
        return _FILE.content_of(self, without_defaults=True)


_FILE = RecordFile(TrainingRecord, DamagedError, OLDER)


@dataclass
class TrainState:
    """State of a training.

    Attributes:
        architecture: Architecture of the network.
        unet: The network.
        ema: Its averaged copy.
        optimiser: Adam.
        crops_seen: Crops seen so far.
        started_from: The model it started from (path, hash and crops seen); None for random weights.
        whole: False while a step changes the weights: a state saved then would not resume exactly.
    """

    architecture: Architecture
    unet: nn.Module
    ema: EMA
    optimiser: torch.optim.Optimizer
    crops_seen: int
    started_from: dict[str, Any] | None = None
    whole: bool = True


def save(folder: Path, state: TrainState, *, recipe: Mapping[str, Any], slides: str = "", maps_from: str = "") -> Path:
    """Write ``checkpoint-<crops seen>`` into the folder.

    Args:
        folder: The run's ``ddpm`` folder.
        state: What to save.
        recipe: The recipe as JSON; stored in the checkpoint.
        slides: Digest of the slides that the crops come from; stored in the checkpoint.
        maps_from: Digest of the source of class maps; stored if there is one.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: If a weight is NaN or infinite, or the checkpoint cannot be written; older ones are untouched.
    """
    if not all(bool(weights.isfinite().all()) for weights in state.unet.parameters()):
        raise CheckpointError(
            f"{folder}: not saved after {state.crops_seen} crops, the weights contain NaN or infinity. "
            "Lower training.rate or set training.precision=no, then --resume from the last checkpoint."
        )
    tensors = {
        "model": state.unet.state_dict(),
        "ema": state.ema.ema_model.state_dict(),
        "optimiser": optimiser_tensors(state.optimiser),
    }
    details = TrainingRecord(
        crops_seen=state.crops_seen,
        architecture=state.architecture.as_json(),
        ema_step=int(state.ema.step),
        versions=versions(),
        recipe=dict(recipe),
        slides=slides,
        started_from=state.started_from,
        maps_from=maps_from or None,
    )
    path = folder / f"checkpoint-{state.crops_seen:09d}"
    save_checkpoint(path, tensors, details.as_json())
    return path


def prune(folder: Path, *, keep: int, newest: int, keep_every_crops: int = 0) -> None:
    """Remove all but the newest checkpoints and the milestones.

    Args:
        folder: The run's ``ddpm`` folder.
        keep: How many of the newest are kept.
        newest: Crops seen by the training. Checkpoints of more were damaged and skipped; they are neither removed nor
            counted.
        keep_every_crops: The first checkpoint at or after each multiple is a milestone; 0 for none.
    """
    checkpoints = [path for path in find_checkpoints(folder) if crops_seen_of(path) <= newest]
    kept, passed = set(checkpoints[:keep]), 0
    for path in reversed(checkpoints):
        multiples = crops_seen_of(path) // keep_every_crops if keep_every_crops else 0
        if multiples > passed:
            kept.add(path)
            passed = multiples
    for path in checkpoints:
        if path not in kept:
            remove_folder(path)


def resume_from_newest(folder: Path, state: TrainState, *, on_damaged: Callable[[str], None]) -> TrainingRecord | None:
    """Load the newest intact checkpoint of a folder into the state.

    Args:
        folder: The run's ``ddpm`` folder.
        state: Changed in place.
        on_damaged: Called for each damaged checkpoint that is skipped.

    Returns:
        What the checkpoint records, or None if there is none (the state is then unchanged).

    Raises:
        CheckpointError: If the newest intact one has a different architecture, or all are damaged.
    """
    found = find_checkpoints(folder)
    for path in found:
        try:
            checkpoint = load_checkpoint(path)
        except DamagedError as error:
            on_damaged(f"Skipped {path.name}: {error}")
            continue
        try:
            record = _FILE.record_of(checkpoint.state)
            architecture = Architecture.from_json(record.architecture)
            check_same(architecture, state.architecture, where=str(path))
            _check_masks(architecture, state.architecture, where=path)
            _restore(checkpoint, record, state)
        except MISFIT as error:
            raise DamagedError(f"{path}: damaged, or of a different version ({error}). Move it away.") from error
        return record
    if found:
        raise CheckpointError(f"{folder}: all {len(found)} checkpoints are damaged. Move them away to start over.")
    return None


def _check_masks(found: Architecture, wanted: Architecture, *, where: Path) -> None:
    if found.mask_classes != wanted.mask_classes:
        there, here = (", ".join(a.mask_classes) or "none" for a in (found, wanted))
        raise CheckpointError(
            f"{where}: its mask head has different classes ({there}; by the recipe {here}). Continue with "
            "the same classes and labels.sources, or start a new run from it (training.init)."
        )


def changed_values(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """List changed settings that determine the weights, in sentences such as ``training.rate was 0.1, is 0.2``."""
    return [
        f"{section}.{key} was {found[section][key]}, is {value}"
        for section in DECISIVE
        for key, value in wanted.get(section, {}).items()
        if key not in FREE and key in found.get(section, {}) and found[section][key] != value
    ]


def _restore(checkpoint: Checkpoint, record: TrainingRecord, state: TrainState) -> None:
    if record.ema_step is None:
        raise ValueError("it has no usable 'ema_step'")
    for network, group in ((state.unet, "model"), (state.ema.ema_model, "ema")):
        check_finite(checkpoint.tensors[group])
        network.load_state_dict(checkpoint.tensors[group])
    state.ema.step.fill_(record.ema_step)
    state.ema.initted.fill_(True)
    load_optimiser(checkpoint.tensors["optimiser"], state.optimiser)
    state.crops_seen = record.crops_seen
    state.started_from = record.started_from


def export_averaged(
    checkpoint: Path, folder: Path, *, add: Callable[[Path], None] = lambda _new: None
) -> dict[str, Any]:
    """Write only the averaged weights of a checkpoint in half precision: an eighth of its size.

    ``load_backbone`` reads the result; a training can be started from it (``init``) but not resumed.

    Args:
        checkpoint: A checkpoint of a training.
        folder: The new checkpoint; replaced if it exists.
        add: Called with the written folder before it takes its place, to add files to it.

    Returns:
        The JSON state that was written.

    Raises:
        CheckpointError: If the checkpoint is damaged, a weight overflows half precision, or it cannot be
            written.
    """
    found = load_checkpoint(checkpoint)
    weights = {name: tensor.half() for name, tensor in found.tensors["ema"].items()}
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise CheckpointError(f"{checkpoint}: a weight is too large for half precision. Export another checkpoint.")
    kept = ("crops_seen", "architecture", "versions", "recipe", "started_from")
    state = {key: found.state[key] for key in kept if key in found.state}
    save_checkpoint(folder, {"ema": weights}, state, add=add)
    return load_state(folder)


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], where: Path) -> None:
    """Load the weights of another training; a mask head of other classes keeps its initial weights.

    Args:
        network: Network of the same architecture, except for the mask head.
        weights: Weights by name.
        where: Their source, for messages.

    Raises:
        CheckpointError: If weights other than a mask head's are missing, unexpected or of another shape.
    """
    own = network.state_dict()
    fits = {k: v for k, v in weights.items() if not k.startswith(MASK_HEAD) or (k in own and own[k].shape == v.shape)}
    missing = [name for name in own if name not in fits and not name.startswith(MASK_HEAD)]
    strange = [name for name, tensor in fits.items() if name not in own or own[name].shape != tensor.shape]
    if missing or strange:
        raise CheckpointError(
            f"{where}: the weights are of a different network ({(missing + strange)[0]}). Use its own recipe."
        )
    network.load_state_dict(fits, strict=False)


def load_autoencoder(folder: Path, wanted: Architecture) -> dict[str, Tensor]:
    """Load the averaged weights of the newest checkpoint of an autoencoder.

    Args:
        folder: The run's ``autoencoder`` folder.
        wanted: The architecture of the diffusion model that works in its space.

    Returns:
        Its weights by name.

    Raises:
        CheckpointError: If it is missing, damaged or of another space.
    """
    found = find_checkpoints(folder)
    if not found:
        raise CheckpointError(f"{folder}: no checkpoint of an autoencoder. Run `cytoseg train-autoencoder` first.")
    checkpoint, own = load_checkpoint(found[0]), wanted.of_autoencoder()
    try:
        check_same(Architecture.from_json(_FILE.record_of(checkpoint.state).architecture), own, where=str(found[0]))
        return network_with(lambda: build_network(own), checkpoint.tensors["ema"]).state_dict()
    except MISFIT as error:
        raise DamagedError(f"{found[0] / STATE}: damaged, or of a different version ({error}). {OLDER}") from error


def recipe_of_newest(folder: Path) -> dict[str, Any]:
    """Return the recipe of a checkpoint, or of the newest one of a folder; empty if there is none."""
    found = [folder] if is_checkpoint(folder) else find_checkpoints(folder)
    recipe = load_state(found[0]).get("recipe", {}) if found else {}
    return recipe if isinstance(recipe, dict) else {}


def load_backbone(
    folder: Path, wanted: Architecture | None = None
) -> tuple[nn.Module, Architecture, dict[str, object]]:
    """Load the averaged weights of the newest checkpoint, ready for features or samples.

    Args:
        folder: The run's ``ddpm`` folder, or one checkpoint.
        wanted: The recipe's architecture, or None to accept any.

    Returns:
        The network in evaluation mode on the CPU, its architecture, and its origin (crops seen, hash).

    Raises:
        CheckpointError: If it is missing, damaged or of a different architecture.
    """
    found = [folder] if is_checkpoint(folder) else find_checkpoints(folder)
    if not found:
        raise CheckpointError(
            f"{folder}: no checkpoint here. Train one with `cytoseg train-ddpm`, or name the ddpm folder of a run."
        )
    checkpoint = load_checkpoint(found[0])
    if "ema" not in checkpoint.tensors or "architecture" not in checkpoint.state:
        raise CheckpointError(f"{found[0]}: not a checkpoint of a diffusion model. Name the ddpm folder of a run.")
    try:
        record = _FILE.record_of(checkpoint.state)
        architecture = Architecture.from_json(record.architecture)
        if architecture.part != "unet":
            raise CheckpointError(f"{found[0]}: an autoencoder, not a diffusion model. Name the ddpm folder of a run.")
        if wanted is not None:
            check_same(architecture, wanted, where=str(found[0]))
        unet = network_with(lambda: build_unet(architecture), checkpoint.tensors["ema"])
        origin = {"crops_seen": record.crops_seen, "sha256": checkpoint.state["sha256"]["ema"]}
    except MISFIT as error:
        raise DamagedError(f"{found[0] / STATE}: damaged, or of a different version ({error}). {OLDER}") from error
    return unet.eval(), architecture, origin
