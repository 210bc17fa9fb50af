"""Recipe section objects, and totals of objects."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated

from annotated_types import Ge, Le

from cytoseg.settings import RULES


@dataclass(frozen=True)
class ObjectsSection:
    """Objects of a predicted class map, such as nuclei."""

    __pydantic_config__ = RULES

    classes: tuple[str, ...] | None = None
    """Classes with objects; null takes all except the fill class."""
    split: tuple[str, ...] | None = None
    """Classes whose touching objects are split; null takes the nucleus class, if it exists."""
    least_px: Annotated[int, Ge(1), Le(1_000_000)] = 16
    """Components of fewer pixels of the class map are dropped and counted."""
    nucleus: str = "nucleus"
    """Nucleus class, for the nucleus-to-cytoplasm ratio; without it in the class list there is no ratio."""
    cytoplasm: str = "cytoplasm"
    """Cytoplasm class, for the same ratio."""
    parquet: bool = False
    """Also write the table of cells as Parquet (needs the extra ``parquet``)."""
    exact_outlines: bool = False
    """Write exact pixel outlines. By default outlines are simplified within 1.5 pixels; their IoU with the exact ones
    is at least 0.98, and holes are kept."""
    zip_outlines: bool = False
    """Write objects.geojson.zip, about a fifth of the bytes of objects.geojson, which QuPath opens from 0.3."""

    def of_classes(self, names: Sequence[str]) -> "ObjectSettings":
        """Return the object settings; by default all given classes, with nuclei split.

        Args:
            names: The classes without the fill class.
        """
        classes = tuple(names) if self.classes is None else self.classes
        split = tuple(name for name in classes if name == self.nucleus) if self.split is None else self.split
        return ObjectSettings(**{**vars(self), "classes": classes, "split": split})


@dataclass(frozen=True)
class ObjectSettings(ObjectsSection):
    """The section with resolved classes.

    Attributes:
        classes: Names of the classes that have objects.
        split: Names of classes whose touching objects are split.
    """

    classes: tuple[str, ...] = field()
    split: tuple[str, ...] = field()


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
