"""The run that draws the small images of an up-sampling model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytoseg.errors import FileContentError
from cytoseg.json_text import load_json
from cytoseg.recipe.base_model import newest_state, run_folder_of
from cytoseg.slides.settings import CropsSection
from cytoseg.yaml_text import load_yaml


def small_run_folder(named: Path) -> Path:
    """Find the diffusion model that ``diffusion.upsample_from`` names.

    Args:
        named: A ``ddpm`` folder, a checkpoint, a run folder, the name of a run, or a recipe file.

    Returns:
        The ``ddpm`` folder or checkpoint; it may be missing, which the command that needs it reports.
    """
    if named.is_file():
        try:
            values = load_yaml(named, name=str(named))
        except FileContentError:
            return named
        return run_folder_of(values) / "ddpm" if isinstance(values, Mapping) else named
    if not named.is_dir():
        run = Path("runs") / named
        return run / "ddpm" if len(named.parts) == 1 and run.is_dir() else named
    is_model = (named / "state.json").is_file() or newest_state(named) is not None
    return named if is_model or not (named / "ddpm").is_dir() else named / "ddpm"


def with_upsampling(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill ``diffusion.upsample`` from the sizes of the crops of both runs.

    A missing run, or sizes that do not divide, are ignored here: the command that needs them reports it.

    Args:
        values: The recipe as read; not modified. Invalid values are left for the schema to refuse.
    """
    sections = {name: values.get(name, {}) for name in ("diffusion", "crops")}
    if not all(isinstance(section, Mapping) for section in sections.values()):
        return values
    diffusion, size = sections["diffusion"], sections["crops"].get("size_px", CropsSection().size_px)
    named = diffusion.get("upsample_from")
    if not isinstance(named, str) or "upsample" in diffusion or type(size) is not int:
        return values
    small = _side(small_run_folder(Path(named)))
    if small is None or size % small or size == small:
        return values
    return {**values, "diffusion": {**diffusion, "upsample": size // small}}


def _side(folder: Path) -> int | None:
    """Return the side of the crops that a model was trained on, if stated."""
    state = folder / "state.json" if (folder / "state.json").is_file() else newest_state(folder)
    try:
        side = load_json(state)["recipe"]["crops"]["size_px"] if state else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return side if type(side) is int and side > 0 else None
