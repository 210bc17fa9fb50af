"""Filling a recipe's architecture from the weights it starts from."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from cytoseg.diffusion.settings import DiffusionSection
from cytoseg.errors import CheckpointError, RecipeError
from cytoseg.json_text import load_json
from cytoseg.shipped import find_base_model

_KEYS = {field.name for field in dataclasses.fields(DiffusionSection)}


def with_architecture(values: Mapping[str, Any], *, where: Path) -> Mapping[str, Any]:
    """Fill the section ``diffusion`` from the run's own weights, otherwise from the model that the run starts from.

    Explicit values are kept. Missing or damaged weights are ignored here: the command that needs them reports it.

    Args:
        values: The recipe as read; not modified. Invalid values are left for the schema to refuse.
        where: The recipe's file, for messages.

    Returns:
        The recipe with the architecture.

    Raises:
        RecipeError: If an explicit value differs from that of the model to start from.
    """
    given, training = values.get("diffusion", {}), values.get("training", {})
    if not isinstance(given, Mapping) or not isinstance(training, Mapping):
        return values
    own = _newest(_run_folder(values) / "ddpm")
    init = training.get("init")
    if own:
        return {**values, "diffusion": {**own, **given}}
    if not isinstance(init, str):
        return values
    found = _of_model(Path(init))
    _refuse_others(found, given, init=init, where=where)
    return {**values, "diffusion": {**found, **given}}


def _run_folder(values: Mapping[str, Any]) -> Path:
    return Path(str(values.get("folder") or Path("runs") / str(values.get("name"))))


def _of_model(named: Path) -> dict[str, Any]:
    try:
        folder = find_base_model(named)
    except CheckpointError:
        return {}
    return _read(folder / "state.json") or _newest(folder)


def _newest(folder: Path) -> dict[str, Any]:
    """Read the architecture of the newest checkpoint in a ``ddpm`` folder; empty if there is none."""
    try:
        found = list(folder.glob("checkpoint-*/state.json"))
    except OSError:  # name too long
        return {}
    states = sorted(found, key=lambda path: (len(path.parent.name), path.parent.name))
    return _read(states[-1]) if states else {}


def _read(path: Path) -> dict[str, Any]:
    """Read the recipe keys of a checkpoint's architecture; empty if it is missing or damaged."""
    try:
        found = load_json(path)["architecture"]
        known = {key: value for key, value in found.items() if key in _KEYS}
        section = pydantic.TypeAdapter(DiffusionSection)
        return dict(section.dump_python(section.validate_python(known), mode="json", include=set(known)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _refuse_others(found: Mapping[str, Any], given: Mapping[str, Any], *, init: str, where: Path) -> None:
    try:
        section = pydantic.TypeAdapter(DiffusionSection)
        wanted = section.dump_python(section.validate_python(given), mode="json")
    except pydantic.ValidationError:
        return
    differ = [
        f"diffusion.{key} {value} there, {wanted[key]} here"
        for key, value in found.items()
        if key in given and wanted[key] != value
    ]
    if differ:
        raise RecipeError(
            f"{where}: training.init={init} is of a different architecture "
            f"({'; '.join(differ)}). Remove these keys to use the model's own, or start from another model."
        )
