import pytest

from cytoseg.errors import RecipeError
from cytoseg.workflows.memory_option import parse_memory


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("4G", 4 * 10**9),
        ("4GB", 4 * 10**9),
        ("4g", 4 * 10**9),
        ("3.5G", 3_500_000_000),
        ("1.5gb", 1_500_000_000),
        ("500M", 500 * 10**6),
        ("500MB", 500 * 10**6),
        ("12000M", 12 * 10**9),
        ("2M", 2 * 10**6),
        (" 2M ", 2 * 10**6),
    ],
)
def test_amounts_of_memory_are_read(text: str, amount: int) -> None:
    assert parse_memory(text) == amount


@pytest.mark.parametrize(
    "text",
    ["4", "G", "4 G", "4T", "-4G", "-1G", "4,5G", ".5G", "4.G", "1e3M", "", "4GiB", "4 apples", "\u0664G"],
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^--memory '.*': write a number and G or M, such as 4G, 3\.5G or 500M\.$"):
        parse_memory(text)
