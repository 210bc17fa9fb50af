"""The wheel, as a user installs it: with the recipes and the review app inside."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it; gives the folder that holds cytoseg/."""
    built = tmp_path_factory.mktemp("built")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(built), str(SOURCES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = built.glob("cytoseg-*.whl")
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_python(installed: Path, *arguments: str) -> str:
    """Run Python where only the wheel's files are cytoseg, away from the sources."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=installed,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


@pytest.mark.slow
def test_recipes_and_the_app_are_inside_and_tests_are_not(installed: Path) -> None:
    shipped = installed / "cytoseg" / "_shipped"
    assert (shipped / "review" / "app.py").is_file()
    for original in (SOURCES / "recipes", SOURCES / "apps" / "review", SOURCES / "data" / "checkpoints"):
        assert _files(shipped / original.name) == _files(original)
    top = {p.name for p in installed.iterdir() if not p.name.endswith(".dist-info")}
    assert top == {"cytoseg"}


@pytest.mark.slow
def test_the_installed_program_finds_its_recipes_and_app(installed: Path) -> None:
    listed = run_python(installed, "-m", "cytoseg", "recipe", "list")
    names = ["cervical", "cytology-base", "dsb16", "lbc", "lbc-base", "lbc-cric-base", "quickstart"]
    assert [line.split()[0] for line in listed.splitlines()[:-1]] == names
    script = (
        "import json, cytoseg\n"
        "from cytoseg.commands.review import streamlit_command\n"
        "from cytoseg.recipe import load_recipe\n"
        "print(json.dumps([cytoseg.__file__, streamlit_command(load_recipe('quickstart'))]))\n"
        "assert load_recipe('quickstart', ['training.init=lbc-base', 'diffusion.dim=32']).architecture().dim == 32\n"
    )
    package, command = json.loads(run_python(installed, "-c", script))
    assert Path(package).is_relative_to(installed)
    assert Path(command[4]) == installed / "cytoseg" / "_shipped" / "review" / "serve.py"
    assert Path(command[4]).is_file()
