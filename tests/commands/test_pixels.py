import pytest
import torch

from cytoseg.commands.pixels import gigabytes, pixels_used, used_sentence
from cytoseg.errors import RecipeError
from cytoseg.features.pixels import PixelTable


@pytest.mark.parametrize(
    ("text", "gb"), [("4G", 4), ("4GB", 4), ("3.5G", 3.5), ("500M", 0.5), ("500MB", 0.5), ("12000M", 12)]
)
def test_amounts_of_memory_are_read(text: str, gb: float) -> None:
    assert gigabytes(text) == gb


@pytest.mark.parametrize(
    "text", ["4", "G", "4g", "4 G", "4T", "-4G", "4,5G", ".5G", "4.G", "1e3M", "", "4GiB", "\u0664G"]
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^--memory '.*': write a number and G or M, such as 4G, 3\.5G or 500M\.$"):
        gigabytes(text)


def test_pixels_and_memory_are_told_by_class() -> None:
    classes = torch.tensor([0] * 3 + [2] * 5)
    table = PixelTable(torch.zeros(8, 500_000).half(), classes, classes, {0: 1_234_567, 2: 5})
    used = pixels_used(table, ("background", "cytoplasm", "nucleus"), peak_mb=2345.0)
    assert used == {
        "pixels_used": {"background": 3, "cytoplasm": 0, "nucleus": 5},
        "pixels_labelled": {"background": 1_234_567, "cytoplasm": 0, "nucleus": 5},
        "table": "memory",
        "table_gb": 0.008,
        "peak_memory_gb": 2.345,
    }
    assert used_sentence(used) == (
        "Pixels used of those labelled: background 3 of 1,234,567, cytoplasm 0 of 0, nucleus 5 of 5. "
        "Features in memory, 0.0 GB; most memory 2.3 GB."
    )
    unknown = used | {"peak_memory_gb": None, "table": "disk"}
    assert used_sentence(unknown).endswith("Features on disk, 0.0 GB.")
