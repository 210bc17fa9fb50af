"""Folders of samples, keyed by their origin."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cytoseg.errors import CytosegError
from cytoseg.locks import locked
from cytoseg.records import RecordFile
from cytoseg.writing import write_atomically

ABOUT = "samples.json"
_WAIT_S = 30.0
"""Seconds to wait for another command that is choosing its folder."""


@dataclass(frozen=True)
class SampleOrigin:
    """Everything that determines sample i.

    Attributes:
        sampler: ``ddim`` or ``ddpm``.
        steps: Network evaluations per sample.
        seed: Seed of the noise.
        size_px: Side of a sample.
        crops_seen: Crops seen by the checkpoint.
        sha256: Hash of the checkpoint's averaged weights.
        guide: Id of the class that the samples were guided to; None without a guide.
        scale: Scale of the guide.
        interpreter: Hash of the interpreter that guided.
        maps: Hash of the class maps that the samples should show.
        small: Hash of the model or slides that the enlarged small images come from.
    """

    sampler: str
    steps: int
    seed: int
    size_px: int
    crops_seen: int
    sha256: str
    guide: int | None = None
    scale: float = 0.0
    interpreter: str = ""
    maps: str = ""
    small: str = ""

    def folder_name(self) -> str:
        """Return a unique folder name for these samples, such as ``ddim50_seed0_64px_000024000_5f1c09ab``."""
        drawn = f"{self.sampler}{self.steps}_seed{self.seed}_{self.size_px}px"
        guided = "" if self.guide is None else f"_class{self.guide}x{self.scale:g}_{self.interpreter[:8]}"
        if self.maps:
            by = f"_{self.interpreter[:8]}" if self.interpreter else ""
            guided = f"_maps{self.maps[:8]}x{self.scale:g}{by}"
        enlarged = f"_of{self.small[:8]}" if self.small else ""
        return f"{drawn}_{self.crops_seen:09d}_{self.sha256[:8]}{guided}{enlarged}"


_FILE = RecordFile(SampleOrigin, CytosegError, "Remove the folder and try again.")


def open_folder(samples: Path, origin: SampleOrigin) -> Path:
    """Find or create the folder of samples and write samples.json, which describes them.

    Args:
        samples: Used if it is empty or has samples of this origin; otherwise a subfolder named after the origin.
        origin: Everything that determines the samples.

    Returns:
        The folder; samples in it are of this origin.

    Raises:
        CytosegError: If the subfolder of that name has other samples.
    """
    own = samples / origin.folder_name()
    samples.mkdir(parents=True, exist_ok=True)
    # Two commands of different origins would both find it empty.
    with locked(samples / ABOUT, wait_s=_WAIT_S, error=CytosegError):
        for folder in (samples, own):
            if _belongs(folder, origin):
                write_atomically(folder / ABOUT, json.dumps(_FILE.content_of(origin, without_defaults=True), indent=1))
                return folder
    raise CytosegError(f"{own}: holds samples that its {ABOUT} does not describe. Remove the folder and try again.")


def source_of(origin: SampleOrigin) -> str:
    """Describe in a few words where samples come from."""
    return f"{origin.sampler} sample, seed {origin.seed}, model {origin.sha256[:8]}"


def sample_path(folder: Path, number: int) -> Path:
    """Return the path of sample ``number``."""
    return folder / f"sample_{number:05d}.png"


def ranges(numbers: Iterable[int]) -> str:
    """Format ascending numbers as ranges: ``0-3, 7``."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


def _belongs(folder: Path, origin: SampleOrigin) -> bool:
    about = folder / ABOUT
    if not about.exists():
        return next(folder.glob("sample_*.png"), None) is None
    return _FILE.read_or_none(about) == origin
