"""Prose of README, site, recipes, messages and docstrings: no unidiomatic turns."""

import re
from collections.abc import Iterator
from functools import cache
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
    "anew": "again",
    "all the same": "anyway",
    "anybody": "anyone",
    "nobody": "no one",
    "somebody": "a person, or name the role",
    "learnt": "learned",
    "says nothing about": "does not depend on",
    "is no list": "is not a list",
    "is no picture of": "is not a picture of",
    "are no pictures": "are not pictures",
    "as it stands": "as it is",
    "as json can hold it": "as JSON",
    "as json holds it": "as JSON",
    "as iso 8601 writes it": "in ISO 8601",
    "be it": "whether",
    "colour-blind eyes": "colour-blind people",
    "gone on with": "resumed",
    "goes on where": "resumes",
    "hang together": "are connected",
    "is no array": "is not an array",
    "is no folder": "is not a folder",
    "is no number above": "is not a number above",
    "is told of": "is called with",
    "told in a sentence": "called with a message",
    "told of each": "called for each",
    "judged by": "evaluated on",
    "learnt from": "used for training",
    "nobody has said": "unlabelled",
    "nobody knows": "unknown",
    "none of its own": "not its own",
    "of which nobody": "unknown",
    "put it back": "restore it",
    "so many are": "at most this many are",
    "such as it is": "",
    "take it away": "remove it",
    "take it out": "remove it",
    "told apart": "distinguished",
    "what a pixel is described by": "features",
    "what is told apart": "the classes",
    "what it takes": "what it needs",
    "where nobody": "if nobody",
    "whoever": "anyone who",
    "written anew": "rewritten",
    "a machine of one's own": "an idle machine",
    "by eye": "on visual inspection",
    "crops to go": "remaining crops",
    "for ever": "forever, or block",
    "give the command again": "run the command again",
    "go on with": "continue with",
    "goes on": "continues",
    "held against": "compared with",
    "in place of": "instead of",
    "is no class": "is not a class",
    "are no crops": "are not crops",
    "is no detector": "does not detect",
    "is no finding": "is not conclusive",
    "is no longer there": "no longer exists",
    "is not here any more": "no longer exists",
    "is obeyed": "is followed",
    "looked at": "inspected, scored or checked",
    "made pictures": "generated images",
    "made slides": "synthetic slides",
    "mend or": "fix or",
    "nothing says": "it is unknown",
    "nothing tells": "it is unknown",
    "of its own accord": "automatically",
    "once more": "again",
    "or the like": "for example",
    "says nothing": "is uninformative",
    "says of": "states about",
    "seconds of the processor": "CPU seconds",
    "set aside": "disabled or excluded",
    "shall": "should",
    "steps a turn": "steps per turn",
    "takes a step back": "undoes",
    "takes nothing away": "does no harm",
    "the rivals": "the other methods",
    "train on with": "continue training with",
    "what falls short": "limitations",
    "what it says": "results",
    "and the like": "such as, or and so on",
    "as the network takes": "as input of the network",
    "asked for or not": "always",
    "at the most": "at most",
    "everybody": "everyone",
    "go nearer": "zoom in",
    "in silence": "silently",
    "it is well to": "it is best to",
    "made sample": "generated sample",
    "told how many": "called with the number",
    "what became of": "the outcome of",
}


def texts() -> Iterator[Path]:
    yield SOURCES / "README.md"
    folders = (("docs", "*.md"), ("recipes", "*.yaml"), ("cytoseg", "*.py"), ("apps", "*.py"))
    for folder, pattern in (*folders, ("tests/benchmarks/results", "*.md")):
        yield from sorted((SOURCES / folder).rglob(pattern))


@cache
def running_texts() -> tuple[tuple[Path, str], ...]:
    """Give each text in lower case as one line, also across the lines of a comment."""
    return tuple((p, re.sub(r"\s+(?:#\s+)?", " ", p.read_text(encoding="utf-8").lower())) for p in texts())


@pytest.mark.parametrize("banned", BANNED)
def test_the_prose_avoids(banned: str) -> None:
    pattern = re.compile(rf"\b{re.escape(banned)}\b")
    hits = (path for path, text in running_texts() if banned in text and pattern.search(text))  # the first test is fast
    found = [str(path.relative_to(SOURCES)) for path in hits]
    assert found == [], f"write {BANNED[banned]!r} instead of {banned!r}"


BANNED_IN_NAMES = ("anew", "anybody", "learnt", "no_number", "nobody", "promise", "somebody", "told_apart", "is_told")
BANNED_IN_NAMES += ("are_told", "whoever")


@cache
def names_of_tests() -> tuple[str, ...]:
    files = (SOURCES / "tests").rglob("test_*.py")
    return tuple(name for path in files for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("banned", BANNED_IN_NAMES)
def test_names_of_tests_avoid(banned: str) -> None:
    found = [name for name in names_of_tests() if re.search(rf"_{banned}(s|_|$)", name)]
    assert found == []


def test_there_is_prose_to_check() -> None:
    assert len(list(texts())) > 100


def test_the_readme_is_short() -> None:
    assert len((SOURCES / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
