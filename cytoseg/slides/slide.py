"""The protocol that every slide reader implements."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from cytoseg.geometry import Level, Region


class Slide(Protocol):
    """An open slide: levels, micrometres per pixel, and pixels of a region.

    A slide is pickled as its path and reopened when unpickled, so it can be sent to a DataLoader worker.
    """

    path: Path

    @property
    def levels(self) -> Sequence[Level]:
        """Resolutions, finest first."""

    @property
    def mpp(self) -> float | None:
        """Micrometres per level-0 pixel, or None if the file does not state it."""

    @property
    def note(self) -> str:
        """Which image of the file is read, such as ``plane 4 of 7 (the middle one)``; empty if there is only one."""

    @property
    def damage(self) -> str:
        """What is known to be missing without reading the pixels; empty if nothing is."""

    def read_region(self, region: Region, level: int = 0) -> NDArray[np.uint8]:
        """Read a region from one level.

        Args:
            region: In level-0 pixels; outside the slide it is white.
            level: Index into ``levels``.

        Returns:
            (H, W, 3) uint8 RGB with the size of ``region.at(levels[level].downsample)``.

        Raises:
            SlideError: If the file is damaged there.
        """

    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
