"""Recipe sections slides and crops."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from cytoseg.settings import ONE, ONE_OR_TABLE, RULES, TABLE, checked_by
from cytoseg.slides.folder_values import innermost

MIN_MPP, MAX_MPP = 0.01, 20.0
"""Finest and coarsest pixel size of a slide in micrometres; scans of cells have 0.1 to 2, overviews up to 20."""


def _plausible(mpp: float) -> float:
    """Refuse what is no pixel size in micrometres, such as one in nanometres or metres."""
    if not MIN_MPP <= mpp <= MAX_MPP:
        raise ValueError(
            f"must be {MIN_MPP:g} to {MAX_MPP:g} micrometres per pixel (scans of cells have 0.1 to 2); give the "
            "pixel size in micrometres, such as 0.5"
        )
    return mpp


Mpp = Annotated[float, checked_by(_plausible)]
MppOrByFolder = Annotated[Annotated[Mpp, ONE] | Annotated[dict[Path, Mpp], TABLE], ONE_OR_TABLE]


@dataclass(frozen=True)
class BackgroundSection:
    """How glass is separated from cells, once per slide at low resolution."""

    __pydantic_config__ = RULES

    rule: Literal["otsu", "threshold", "none"] = "otsu"
    """otsu finds the optical density that separates glass from cells; threshold uses the value below; none takes
    everything."""
    threshold: Annotated[float, Gt(0), Lt(3)] = 0.08
    """Mean optical density above which a pixel counts as cells; for the rule threshold."""


@dataclass(frozen=True)
class SlidesSection:
    """The slides of the training."""

    __pydantic_config__ = RULES

    folders: tuple[Path, ...] = ()
    """Folders to search, relative to the current folder."""
    include: tuple[str, ...] = ("**/*",)
    """Patterns to include in each folder, such as **/*.svs; only known slide formats count."""
    exclude: tuple[str, ...] = ()
    """File name patterns to exclude."""
    mpp: Mpp | None = None
    """Micrometres per pixel at which crops and tiles are read, 0.01 to 20; null takes level 0."""
    assume_mpp: MppOrByFolder | None = None
    """Micrometres per level-0 pixel of slides that do not state it, 0.01 to 20; one value, or one per folder. Never
    guessed."""
    background: BackgroundSection = BackgroundSection()
    """How glass is skipped."""
    unreadable: Literal["stop", "skip"] = "stop"
    """If a slide can no longer be read during training: stop after saving, or skip it with a message."""

    def assumed_mpp(self, path: Path) -> float | None:
        """Return the assumed mpp of a slide that does not state it: the value of its innermost folder."""
        if isinstance(self.assume_mpp, dict):
            return innermost(path, self.assume_mpp)
        return self.assume_mpp


@dataclass(frozen=True)
class CropsSection:
    """Random training crops of the diffusion model."""

    __pydantic_config__ = RULES

    size_px: Annotated[int, Ge(16), Le(1024)] = 256
    """Side of a crop in pixels at slides.mpp."""
    flips: bool = True
    """Flip crops at random: cells have no preferred orientation."""
    turns: bool = True
    """Rotate crops by 90, 180 or 270 degrees at random."""
    jitter: Annotated[float, Ge(0), Le(0.5)] = 0.0
    """Largest relative change of contrast per colour channel; small values help when stains vary."""
