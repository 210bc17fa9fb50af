"""Pages of the site that are generated: recipe keys, commands, benchmark tables, architecture of the package."""

import os
from pathlib import Path
from typing import Any

import typer.main
from click import Command
from mkdocs.structure.files import File, Files

os.environ.setdefault("TERM", "dumb")
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "tests" / "benchmarks" / "results"


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the generated pages, and the figures of the benchmarks."""
    pages = {"reference/recipe.md": recipe_page(), "reference/commands.md": commands_page()}
    for table in sorted(RESULTS.glob("*.md")):
        pages[f"benchmarks/results/{table.name}"] = table.read_text(encoding="utf-8")
    pages["benchmarks/results/index.md"] = "# All tables\n\n" + "\n".join(
        f"- [{table.stem.replace('_', ' ')}]({table.name})" for table in sorted(RESULTS.glob("*.md"))
    )
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    for figure in sorted(RESULTS.glob("*.png")):
        files.append(File.generated(config, f"benchmarks/results/{figure.name}", abs_src_path=str(figure)))
    return files


def recipe_page() -> str:
    """Describe each key of a recipe, in the words of `cytoseg recipe explain`."""
    from cytoseg.commands.recipe import _rows
    from cytoseg.recipe import Recipe

    lines = ["# Recipe keys", "", "| key | default | meaning |", "|---|---|---|"]
    for key, default, text in _rows(Recipe, None, prefix=""):
        lines.append(f"| `{key}` | {_cell(str(default))} | {_cell(text)} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Describe each command with its arguments and options, as `--help` does."""
    from cytoseg.cli import COMMANDS, build_app

    parts = ["# Commands\n"]
    for name in COMMANDS:
        group = typer.main.get_command(build_app(name))
        parts += _command(name, group.commands[name])  # type: ignore[attr-defined] # a group of commands
    return "\n".join(parts)


def _command(name: str, command: Command) -> list[str]:
    verbs = getattr(command, "commands", None)
    if verbs is not None:
        return [part for verb, found in verbs.items() for part in _command(f"{name} {verb}", found)]
    lines = [f"## `cytoseg {name}`", "", (command.help or "").replace("\b", ""), "", "| | |", "|---|---|"]
    for parameter in command.params:
        shown = (
            (parameter.metavar or parameter.name or "").upper()
            if parameter.param_type_name == "argument"
            else ", ".join(parameter.opts)
        )
        lines.append(f"| `{_cell(shown)}` | {_cell(getattr(parameter, 'help', None) or '')} |")
    return [*lines, ""]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
