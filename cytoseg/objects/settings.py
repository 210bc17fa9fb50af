"""Object settings and totals."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ObjectSettings:
    """Which classes have objects, and how they are separated.

    Attributes:
        classes: Names of the classes that have objects.
        split: Names of classes whose touching objects are split.
        least_px: Components of fewer pixels of the maps are dropped.
        nucleus: Name of the nucleus class, for the nucleus-to-cytoplasm ratio; need not be in the class list.
        cytoplasm: Name of the cytoplasm class, as above.
        parquet: Also write the table as Parquet.
        exact_outlines: Write exact pixel outlines.
    """

    classes: tuple[str, ...]
    split: tuple[str, ...]
    least_px: int
    nucleus: str
    cytoplasm: str
    parquet: bool = False
    exact_outlines: bool = True


@dataclass
class ClassTotals:
    """Totals of one class.

    Attributes:
        objects: Number of objects written.
        pixels: Their total area in pixels.
        split: Components that were split into several objects.
        dropped: Components smaller than ``least_px``.
        dropped_px: Their total area in pixels.
        sheets: Components too large to process: neither split, outlined nor measured, and 0 in the instance map.
        sheets_px: Their total area in pixels.
    """

    objects: int = 0
    pixels: int = 0
    split: int = 0
    dropped: int = 0
    dropped_px: int = 0
    sheets: int = 0
    sheets_px: int = 0


@dataclass(frozen=True)
class ObjectTotals:
    """Totals of a slide; ``classes`` is keyed by class name."""

    classes: dict[str, ClassTotals]

    def record(self) -> dict[str, dict[str, int]]:
        """Return the totals as JSON."""
        return {name: asdict(totals) for name, totals in self.classes.items()}
