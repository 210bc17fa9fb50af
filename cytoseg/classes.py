"""The class list: names, ids and colours of the classes."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le, MaxLen, MinLen
from numpy.typing import NDArray

from cytoseg.settings import RULES, checked_by, matching

IGNORE = 255
"""Id of an unlabelled pixel; it is never used for training or scoring."""
MOST_CHARACTERS = 60
"""Longest name of a class."""


RESERVED = ("_background_", "__ignore__")
"""Labels with a meaning of their own in annotations, see ``formats.annotation``; no class can have such a name."""


def _usable(name: str) -> str:
    """Refuse a name that no annotation can have, because it is reserved, or read without its outer spaces."""
    if name in RESERVED:
        raise ValueError("this name has a meaning of its own in annotations; choose another")
    if name != name.strip() or not name.isprintable():
        raise ValueError("a name has no spaces at its ends and no line breaks or control characters")
    return name


@dataclass(frozen=True)
class ClassItem:
    """One class."""

    __pydantic_config__ = RULES

    name: Annotated[str, MinLen(1), MaxLen(MOST_CHARACTERS), checked_by(_usable)]
    """Name, as in the labelme annotations."""
    colour: Annotated[str, matching(r"^#[0-9a-fA-F]{6}$")]
    """Colour in overlays and class maps, as #rrggbb."""

    def rgb(self) -> tuple[int, int, int]:
        """Return red, green and blue, 0 to 255."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red, green, blue


@dataclass(frozen=True)
class ClassList:
    """Class names in the order of their ids.

    Attributes:
        names: Unique names; the id of a class is its index.
        colours: (red, green, blue), 0 to 255, one per name.
        fill: The class that unmarked pixels belong to, or None if unmarked means ignore.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    fill: str | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def fill_id(self) -> int:
        """Id given to unmarked pixels: the fill class, or ignore."""
        return IGNORE if self.fill is None else self.names.index(self.fill)

    def colour_table(self) -> NDArray[np.uint8]:
        """Return a (256, 3) uint8 table from id to colour; ignore and ids beyond the list are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self.names)] = np.array(self.colours, np.uint8)
        return table


_Byte = Annotated[int, Ge(0), Le(255)]


@dataclass(frozen=True)
class SavedClasses:
    """A class list as stored in files: complete, with consistent parts."""

    names: Annotated[tuple[str, ...], MinLen(1), MaxLen(IGNORE)]
    colours: tuple[tuple[_Byte, _Byte, _Byte], ...]
    fill: str | None

    def __post_init__(self) -> None:
        """Compare the parts.

        Raises:
            ValueError: If there is not one colour per name, or the fill is not a class.
        """
        if len(self.names) != len(self.colours) or not (self.fill is None or self.fill in self.names):
            raise ValueError("the parts of the class list do not fit")

    def class_list(self) -> ClassList:
        """Return the class list."""
        return ClassList(self.names, self.colours, self.fill)
