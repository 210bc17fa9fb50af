"""What counts as an object, and how many were found."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ObjectSettings:
    """Which classes have objects, and how these are told apart.

    Attributes:
        classes: Names of the classes that have objects.
        split: Names of those whose touching objects are cut apart.
        least_px: Areas of fewer pixels of the maps are dropped.
        nucleus: Name of the class of nuclei, for the nucleus-to-cytoplasm ratio; need not be in the class list.
        cytoplasm: Likewise of the class of cytoplasm.
        parquet: Write the table as Parquet, too.
        exact_outlines: Keep every pixel step of the outlines.
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
    """What was found of one class.

    Attributes:
        objects: How many were written.
        pixels: Their pixels.
        split: Connected areas that were cut into several objects.
        dropped: Areas smaller than ``least_px``.
        dropped_px: Their pixels.
        sheets: Areas too large to be looked at whole: neither cut, outlined nor measured, and 0 in the instance map.
        sheets_px: Their pixels.
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
    """What was found on a slide; ``classes`` goes by class name."""

    classes: dict[str, ClassTotals]

    def record(self) -> dict[str, dict[str, int]]:
        """Return the numbers as JSON can hold them."""
        return {name: asdict(totals) for name, totals in self.classes.items()}
