"""Pages of the site that are made from the program, so that they never say anything else than it does."""

import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import cytoseg
from cytoseg.cli import COMMANDS, build_app
from cytoseg.recipe.keys import keys_of
from cytoseg.recipe.schema import Recipe
from cytoseg.reporting.glossary import GLOSSARY

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "tests" / "benchmarks" / "results"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    pages = {
        "reference/commands.md": commands_page(),
        "reference/recipe.md": recipe_page(),
        "reference/api.md": api_page(),
        "benchmarks.md": benchmarks_page(),
        "glossary.md": glossary_page(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for picture in sorted(RESULTS.glob("*.png")):
        files.append(File.generated(config, f"results/{picture.name}", abs_src_path=str(picture)))
    return files


def commands_page() -> str:
    """List every command with its arguments and options, as ``--help`` has them."""
    parts = ["# Commands", "`section.key=value` behind a recipe overrides one of its values.", ""]
    for name in COMMANDS:
        command: Any = typer.main.get_command(build_app(name)).commands[name]  # type: ignore[attr-defined] # a group
        verbs = getattr(command, "commands", None)
        for verb, one in (verbs or {"": command}).items():
            parts += _command(f"cytoseg {name} {verb}".strip(), one)
    return "\n".join(parts)


def _command(called: str, command: Any) -> list[str]:
    lines = [f"## {called}", "", _plain(command.help or COMMANDS[called.split()[1]]), ""]
    rows = [row for parameter in command.params if (row := _parameter(parameter)) is not None]
    return lines + (["| argument | meaning |", "|---|---|", *rows, ""] if rows else [])


def _parameter(parameter: Any) -> str | None:
    if parameter.name == "help":
        return None
    named = parameter.metavar or parameter.name.upper() if parameter.param_type_name == "argument" else None
    shown = named or ", ".join([*parameter.opts, *parameter.secondary_opts])
    return f"| `{shown}` | {_cell(getattr(parameter, 'help', '') or '')} |"


def recipe_page() -> str:
    """List every key of a recipe with its default, as ``cytoseg recipe explain`` has them."""
    parts = ["# Recipe", "One YAML file serves every command. A key that is not listed here is refused.", ""]
    single = [key for key in keys_of(Recipe) if key.section is None]
    parts += ["## At the top", "", *_keys(single, prefix="")]
    for section in (key for key in keys_of(Recipe) if key.section is not None):
        parts += [f"## {section.name}", "", section.text, ""]
        parts += _keys(list(keys_of(section.section)), prefix=f"{section.name}.")  # type: ignore[arg-type] # it has one
    return "\n".join(parts)


def _keys(keys: list[Any], *, prefix: str) -> list[str]:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key in keys:
        if key.section is not None:
            rows += _keys(list(keys_of(key.section)), prefix=f"{prefix}{key.name}.")[2:-1]
            continue
        default = "(required)" if key.is_required else f"`{_short(key.default)}`"
        rows.append(f"| `{prefix}{key.name}` | {default} | {_cell(key.text)} |")
    return [*rows, ""]


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_short, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value) if isinstance(value, str | int | float) else "see below"


def api_page() -> str:
    """List what ``import cytoseg`` offers."""
    parts = ["# Python", "Everything that `import cytoseg as cs` offers; nothing is loaded before it is used.", ""]
    parts += [f"::: cytoseg.{name}\n" for name in getattr(cytoseg, "__all__", ()) if name != "__version__"]
    return "\n".join(parts)


def benchmarks_page() -> str:
    """Join the tables that the benchmarks have written."""
    parts = [
        "# Benchmarks",
        "Written by the scripts in `tests/benchmarks`, which name their commands and machines.",
        "",
    ]
    for table in sorted(RESULTS.glob("*.md")):
        text = re.sub(r"^#", "##", table.read_text(encoding="utf-8"), flags=re.MULTILINE)
        parts.append(text if text.startswith("##") else f"## {table.stem}\n\n{text}")
        if (RESULTS / f"{table.stem}.png").is_file():
            parts.append(f"\n![{table.stem}](results/{table.stem}.png)\n")
    return "\n".join(parts)


def glossary_page() -> str:
    """List the words of the report and the app."""
    return "\n".join(["# Glossary", "", *(f"**{word}**: {text}\n" for word, text in GLOSSARY.items())])


def _plain(text: str) -> str:
    return re.sub(r"\n\s+", "\n", text.replace("\x08", "")).strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
