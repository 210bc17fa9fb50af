"""The prose of README, site, recipes, messages and docstrings: no turns that a native writer would not use."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1]
BANNED = {
    "nobody labelling anything": "without labels",
    "is no number": "NaN",
    "are no numbers any more": "NaN or infinite",
    "contradicts itself": "disagrees",
    "learnt by heart": "overfitted",
    "what they promise": "calibrated",
    "made slide": "synthetic slide",
    "mend the": "fix the",
    "mend it": "fix it",
    "taken away": "removed",
    "passed over": "skipped",
    "stands twice": "appears twice",
    "is there already": "already exists",
    "goes on with it": "continues with it",
    "begin anew": "start over",
    "say otherwise": "override",
}


def texts() -> Iterator[Path]:
    yield SOURCES / "README.md"
    for folder, pattern in (("docs", "*.md"), ("recipes", "*.yaml"), ("cytoseg", "*.py"), ("apps", "*.py")):
        yield from sorted((SOURCES / folder).rglob(pattern))


@pytest.mark.parametrize("banned", BANNED)
def test_the_prose_avoids(banned: str) -> None:
    pattern = re.compile(r"\s+".join(map(re.escape, banned.split())), re.IGNORECASE)
    found = [str(path.relative_to(SOURCES)) for path in texts() if pattern.search(path.read_text(encoding="utf-8"))]
    assert found == [], f"write {BANNED[banned]!r} instead of {banned!r}"


def test_there_is_prose_to_check() -> None:
    assert len(list(texts())) > 100


def test_the_readme_is_short() -> None:
    assert len((SOURCES / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
