"""What every slide can do, whatever its file format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from cytoseg.geometry import Level, Region


class Slide(Protocol):
    """An open slide: levels, micrometres per pixel, and pixels of a region.

    A slide pickles as its path and is opened again on the other side, so it may be sent to a DataLoader worker.
    """

    path: Path

    @property
    def levels(self) -> Sequence[Level]:
        """Resolutions, finest first."""

    @property
    def mpp(self) -> float | None:
        """Micrometres per level-0 pixel, or None where the file does not say."""

    @property
    def note(self) -> str:
        """Which picture of the file is read, such as ``plane 4 of 7 (the middle one)``; empty if it has but one."""

    @property
    def damage(self) -> str:
        """What of the file is missing, as far as can be seen without reading it; empty if nothing is."""

    def read_region(self, region: Region, level: int = 0) -> NDArray[np.uint8]:
        """Read a region from one level.

        Args:
            region: In level-0 pixels; what lies outside the slide comes back white.
            level: Index into ``levels``.

        Returns:
            (H, W, 3) uint8 RGB with the size of ``region.at(levels[level].downsample)``.

        Raises:
            SlideError: If the file is damaged there.
        """

    def close(self) -> None:
        """Release the file."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
