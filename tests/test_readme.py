"""The README: commands are known, keys and files exist, and marked blocks run."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from cytoseg import PixelClassifier
from cytoseg.cli import COMMANDS, GROUPS, build_app
from cytoseg.recipe import load_recipe

SOURCES = Path(__file__).parents[1]
README = (SOURCES / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?P<run><!-- run -->\n)?^ *```(?P<kind>\w+)\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str, text: str = README) -> Iterator[tuple[bool, list[str]]]:
    """Each block of a kind: whether it is marked to be run, and its lines."""
    for block in BLOCK.finditer(text):
        if block["kind"] == kind:
            yield block["run"] is not None, textwrap.dedent(block["body"]).splitlines()


def typed(text: str = README) -> list[str]:
    """All commands of ours in shell blocks and in running text, without comments."""
    in_blocks = [line for _, lines in blocks("sh", text) for line in lines if line.startswith("cytoseg ")]
    in_text = re.findall(r"`(cytoseg [^`]+)`", re.sub(BLOCK, "", text))
    return [shlex.join(shlex.split(line, comments=True)) for line in (*in_blocks, *in_text)]


def made_targets() -> set[str]:
    lines = [line for _, block in blocks("sh") for line in block]
    return set(re.findall(r"\bmake ([a-z-]+)", "\n".join([*lines, *re.findall(r"`([^`\n]+)`", README)])))


def test_there_is_something_to_check() -> None:
    assert len(typed()) >= 10
    assert {"demo", "test"} <= made_targets()
    assert any(marked for marked, _ in blocks("sh"))


def test_every_command_is_named() -> None:
    assert [name for name in COMMANDS if f"`{name}`" not in README and f"`cytoseg {name}" not in README] == []


@pytest.mark.parametrize("line", sorted(set(typed())))
def test_a_command_can_be_typed_like_this(line: str) -> None:
    check_command(line)


def check_command(line: str) -> None:
    """Refuse a line with an unknown command, option or key."""
    _, name, *arguments = shlex.split(line)
    assert name in COMMANDS
    app = typer.main.get_command(build_app(name))
    assert isinstance(app, click.Group | typer.core.TyperGroup)
    command = app.commands[name]
    if name in GROUPS:
        assert arguments, f"{line}: lacks its verb"
        command = getattr(command, "commands")[arguments.pop(0)]  # noqa: B009 # typer's groups lack the attribute's type
    with command.make_context(name, arguments):  # an unknown option or a missing argument raises UsageError
        pass
    load_recipe("quickstart", [text for text in arguments if re.match(r"[a-z]+(\.[a-z_]+)*=", text)])


def test_recipes_shown_are_recipes(tmp_path: Path) -> None:
    shown = list(blocks("yaml"))
    assert shown
    for _, lines in shown:
        (tmp_path / "shown.yaml").write_text("\n".join(lines), encoding="utf-8")
        load_recipe(str(tmp_path / "shown.yaml"))


def test_the_recipe_shown_trains_as_the_benchmarks_did(tmp_path: Path) -> None:
    (text,) = ("\n".join(lines) for _, lines in blocks("yaml") if any("cytology-base" in line for line in lines))
    (tmp_path / "shown.yaml").write_text(text, encoding="utf-8")
    shown, measured = load_recipe(tmp_path / "shown.yaml"), load_recipe("lbc")
    assert shown.feature_settings() == measured.feature_settings()
    assert (shown.interpreter, shown.decoder) == (measured.interpreter, measured.decoder)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (SOURCES / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert made_targets() <= targets


def test_links_and_pictures_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", README) if not link.startswith(("http:", "https:"))]
    assert [link for link in links if not (SOURCES / link).exists()] == []


@pytest.mark.parametrize("lines", [lines for marked, lines in blocks("sh") if marked])
def test_a_marked_block_runs(lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_block(lines)


def run_block(lines: list[str]) -> None:
    """Run the lines of a block as a user would, each to a good end."""
    for line in lines:
        program, name, *arguments = shlex.split(line, comments=True)
        assert program == "cytoseg"
        result = CliRunner().invoke(build_app(name), [name, *arguments], catch_exceptions=False)
        assert result.exit_code == 0, f"{line}\n{result.output}"


def made_first(text: str) -> str:
    """Find the command that makes the slides of a block of Python."""
    return re.findall(r"(cytoseg slides generate [^`\n]+)[`\n]", text[: text.index("```python")])[-1]


def test_the_python_block_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ((marked, lines),) = blocks("python")
    assert marked
    assert len([line for line in lines if line]) <= 10
    monkeypatch.chdir(tmp_path)
    run_block([made_first(README)])
    capsys.readouterr()
    for name, few in (("steps", 20), ("members", 2)):  # the lines are tested, not the result
        monkeypatch.setitem(PixelClassifier.__init__.__kwdefaults__, name, few)
    exec("\n".join(lines), {})
    printed = capsys.readouterr().out
    assert printed.startswith("(256, 256) (3, 256, 256) 0.")
