"""Commands on the documentation site are valid, and generated pages are complete."""

import re
from pathlib import Path

import pytest

from cytoseg.recipe.file import load_recipe
from cytoseg.recipe.keys import key_names
from cytoseg.workflows.crop_split import split_of
from tests.test_readme import README, SOURCES, blocks, check_command, made_first, run_block, typed

DOCS = SOURCES / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.glob("**/*.md"))
TEXTS = {page: (DOCS / page).read_text(encoding="utf-8") for page in PAGES}
SYNTHETIC = TEXTS["tutorials/synthetic-slides.md"]


def test_there_are_pages_for_every_entry_of_the_site() -> None:
    site = (SOURCES / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"- ([a-z/-]+\.md)$", site, re.MULTILINE))
    made = {"reference/commands.md", "reference/recipe.md", "reference/api.md", "benchmarks.md", "glossary.md"}
    assert listed == set(PAGES) | made


@pytest.mark.parametrize("line", sorted({line for text in TEXTS.values() for line in typed(text)}))
def test_a_command_can_be_typed_like_this(line: str) -> None:
    check_command(line)


def test_links_between_pages_lead_somewhere() -> None:
    made = {"reference/api.md", "benchmarks.md"}
    for page, text in TEXTS.items():
        for link in re.findall(r"\]\(([^)#\s]+)", text):
            target = (DOCS / page).parent / link
            assert target.is_file() or target.resolve().relative_to(DOCS).as_posix() in made, f"{page}: {link}"


def test_the_notebook_on_an_array_is_that_of_the_readme() -> None:
    page = TEXTS["tutorials/arrays.md"]
    assert made_first(page) == made_first(README)  # run by test_readme
    assert next(blocks("python", page))[1] == next(blocks("python"))[1]


@pytest.mark.slow
def test_the_first_tutorial_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, _second = [
        lines for marked, lines in blocks("sh", SYNTHETIC.replace("<!-- run slow -->", "<!-- run -->")) if marked
    ]
    run_block(first)
    assert (tmp_path / "runs" / "quickstart" / "labels" / "contact_sheet.png").is_file()
    split = split_of(load_recipe("quickstart"))  # else training, the next step, refuses the slides
    assert (len(split.train), len(split.test)) == (8, 8)


@pytest.mark.slow
def test_the_first_tutorial_goes_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for marked, lines in blocks("sh", SYNTHETIC.replace("<!-- run slow -->", "<!-- run -->")):
        assert marked
        run_block(lines)
    assert (tmp_path / "runs" / "quickstart" / "predictions" / "made_0_03" / "cells.csv").is_file()
    assert (tmp_path / "runs" / "quickstart" / "report.html").is_file()


def test_the_files_of_the_walks_exist() -> None:
    text = (SOURCES / "docs" / "architecture.md").read_text(encoding="utf-8")
    walks = text[text.index("## Walks") :].split("\n## ")[0]
    named = re.findall(r"`([a-z]\w*/\w+)`", walks)
    assert len(named) > 30
    assert [name for name in named if not (SOURCES / "cytoseg" / f"{name}.py").exists()] == []


def test_the_files_to_begin_reading_with_exist() -> None:
    text = (SOURCES / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z]\w*/\w+\.py)`", text[text.index("## Where to start reading") :])
    assert len(named) > 20
    assert [name for name in named if not (SOURCES / "cytoseg" / name).exists()] == []


def test_every_key_and_command_has_a_place_in_the_reference() -> None:
    pages = pytest.importorskip("docs.build_pages", reason="the extra 'docs' is not installed")
    recipe = pages.recipe_page()
    assert [key for key in key_names() if f"`{key}" not in recipe and f"## {key}" not in recipe] == []
    commands = pages.commands_page()
    assert "## cytoseg train-ddpm" in commands
    assert "## cytoseg slides generate" in commands
    assert "`--resume`" in commands
