"""Filling a recipe's architecture from the weights it starts from."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from cytoseg.diffusion.settings import DiffusionSection
from cytoseg.diffusion.space_settings import SpaceShape
from cytoseg.errors import CheckpointError, RecipeError
from cytoseg.json_text import load_json
from cytoseg.shipped import find_base_model

_SECTIONS: Mapping[str, Any] = {"diffusion": DiffusionSection, "space": SpaceShape}
"""Sections that an architecture determines; of the space only what determines the weights."""
WITH_MASK_HEAD: Mapping[str, Mapping[str, Any]] = {
    "features": {"timesteps": [0]},
    "interpreter": {"steps": 1500, "batch_px": 128, "pixels_per_crop": 8000},
    "decoder": {"steps": 1000, "passes": 90.0, "early": 0.3},
}
"""What suits a network with a mask head, which was trained without noise and knows its classes already. Chosen by
cross-validation (tests/benchmarks/results/few_crops_lbc.md); the schema's defaults suit one that has only denoised."""
_Sections = dict[str, Mapping[str, Any]]


def with_architecture(values: Mapping[str, Any], *, where: Path) -> Mapping[str, Any]:
    """Fill the sections ``diffusion`` and ``space`` from the run's own weights, or those of the model to start from.

    If these have a mask head, fill what suits it too, see ``WITH_MASK_HEAD``. Explicit values are kept. Missing or
    damaged weights are ignored here: the command that needs them reports it.

    Args:
        values: The recipe as read; not modified. Invalid values are left for the schema to refuse.
        where: The recipe's file, for messages.

    Returns:
        The recipe with the architecture.

    Raises:
        RecipeError: If an explicit value differs from that of the model to start from.
    """
    training = values.get("training", {})
    if not all(isinstance(values.get(name, {}), Mapping) for name in (*_SECTIONS, *WITH_MASK_HEAD, "training")):
        return values
    own = _newest(run_folder_of(values) / "ddpm")
    init = training.get("init")
    if own:
        return _filled(values, own)
    if not isinstance(init, str):
        return values
    found = _of_model(Path(init))
    _refuse_others(found, values, init=init, where=where)
    return _filled(values, found)


def _filled(values: Mapping[str, Any], found: _Sections) -> Mapping[str, Any]:
    if values.get("features", {}).get("snr_db") is not None:  # instead of timesteps
        found = {name: keys for name, keys in found.items() if name != "features"}
    return {**values, **{name: {**keys, **values.get(name, {})} for name, keys in found.items() if keys}}


def run_folder_of(values: Mapping[str, Any]) -> Path:
    """Return the run folder of a recipe that has not been checked."""
    return Path(str(values.get("folder") or Path("runs") / str(values.get("name"))))


def _of_model(named: Path) -> _Sections:
    try:
        folder = find_base_model(named)
    except CheckpointError:
        return {}
    return _read(folder / "state.json") or _newest(folder)


def _newest(folder: Path) -> _Sections:
    """Read the architecture of the newest checkpoint in a ``ddpm`` folder; empty if there is none."""
    newest = newest_state(folder)
    return _read(newest) if newest else {}


def newest_state(folder: Path) -> Path | None:
    """Return state.json of the newest checkpoint in a ``ddpm`` folder, if there is one."""
    try:
        found = list(folder.glob("checkpoint-*/state.json"))
    except OSError:  # name too long
        return None
    return max(found, key=lambda path: (len(path.parent.name), path.parent.name), default=None)


def _read(path: Path) -> _Sections:
    """Read the recipe keys that a checkpoint determines or suggests; empty if it is missing or damaged."""
    try:
        found = load_json(path)["architecture"]
        if found.get("part", "unet") != "unet":  # an autoencoder, which the command refuses
            return {}
        keys = {name: _known_keys(name, found if name == "diffusion" else found.get(name, {})) for name in _SECTIONS}
        return {**keys, **(WITH_MASK_HEAD if found.get("mask_classes") else {})}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _known_keys(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    known = {key: found[key] for key in found if key in {field.name for field in dataclasses.fields(_SECTIONS[name])}}
    section = pydantic.TypeAdapter(_SECTIONS[name])
    return dict(section.dump_python(section.validate_python(known), mode="json", include=set(known)))


def _refuse_others(found: _Sections, values: Mapping[str, Any], *, init: str, where: Path) -> None:
    determined = {name: keys for name, keys in found.items() if name in _SECTIONS}
    differ = [text for name, keys in determined.items() for text in _differing(name, keys, values.get(name, {}))]
    if differ:
        raise RecipeError(
            f"{where}: training.init={init} is of a different architecture "
            f"({'; '.join(differ)}). Remove these keys to use the model's own, or start from another model."
        )


def _differing(name: str, found: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    given = {key: value for key, value in given.items() if key in found}
    try:
        section = pydantic.TypeAdapter(_SECTIONS[name])
        wanted = section.dump_python(section.validate_python(given), mode="json")
    except pydantic.ValidationError:  # for the schema to refuse
        return []
    return [f"{name}.{key} {found[key]} there, {wanted[key]} here" for key in given if wanted[key] != found[key]]
