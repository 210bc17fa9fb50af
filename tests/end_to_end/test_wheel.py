"""Wheel and sdist installed into a new environment and run from an empty folder."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SOURCES = Path(__file__).parents[2]
LOCAL = ("--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")
TINY = (
    "labels.test_slides=['*_01']",
    "interpreter.steps=40",
    "interpreter.members=2",
    "interpreter.pixels_per_crop=300",
)


def _run(*command: str, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload] # a test's own
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and from what is inside it the wheel, with the builder that is installed here."""
    folder = tmp_path_factory.mktemp("built")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(SOURCES))
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone into a new environment, which finds what cytoseg needs where this one has it."""
    environment = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", str(environment))
    (wheel,) = built.glob("*.whl")
    python = environment / "bin" / "python"
    _run(str(python), "-m", "pip", "install", *LOCAL, str(wheel))
    (packages,) = environment.glob("lib/python*/site-packages")
    # A line that is a folder is taken as it is: the .pth files in it, and so an editable cytoseg, are not read.
    (packages / "elsewhere.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


def _typed(installed: Path, folder: Path, *arguments: str, program: str = "cytoseg") -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return _run(str(installed / "bin" / program), *arguments, cwd=folder, env=environment)


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_the_sdist_builds_the_wheel_that_the_sources_build(built: Path, tmp_path: Path) -> None:
    options = ("--no-build-isolation", "--wheel-dir", str(tmp_path))
    _run(sys.executable, "-m", "pip", "wheel", *LOCAL, *options, str(SOURCES))
    (ours,), (theirs,) = tmp_path.glob("*.whl"), built.glob("*.whl")
    assert _contents(ours) == _contents(theirs)


def test_recipes_and_the_app_are_inside_and_tests_are_not(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    shipped = tmp_path / "cytoseg" / "_shipped"
    assert (shipped / "review" / "app.py").is_file()
    for original in (SOURCES / "recipes", SOURCES / "apps" / "review", SOURCES / "data" / "checkpoints"):
        assert _files(shipped / original.name) == _files(original)
    assert {p.name for p in tmp_path.iterdir() if not p.name.endswith(".dist-info")} == {"cytoseg"}


def test_the_installed_program_finds_its_recipes_and_app(installed: Path, empty: Path) -> None:
    listed = _typed(installed, empty, "recipe", "list")
    assert {line.split()[0] for line in listed.splitlines()[:-1]} == {p.stem for p in (SOURCES / "recipes").iterdir()}
    assert "0.2.0" in _typed(installed, empty, "doctor")
    script = (
        "import json, cytoseg\n"
        "from cytoseg.commands.review import streamlit_command\n"
        "from cytoseg.recipe import load_recipe\n"
        "print(json.dumps([cytoseg.__file__, streamlit_command(load_recipe('quickstart'))[4]]))\n"
    )
    package, app = json.loads(_typed(installed, empty, "-c", script, program="python"))
    assert Path(package).is_relative_to(installed)
    assert Path(app) == Path(package).with_name("_shipped") / "review" / "serve.py"
    assert Path(app).is_file()


def test_quickstart_runs_from_an_empty_folder_on_both_base_models(installed: Path, empty: Path) -> None:
    drawn = ("--n", "2", "--width", "256", "--height", "256", "--crops", "1", "--crop-px", "96")
    _typed(installed, empty, "slides", "generate", "data/made", *drawn)
    _typed(installed, empty, "label-import", "data/made/labelled", "--recipe", "quickstart", *TINY)
    for base in ("cytology-base", "lbc-base"):
        checked = _typed(installed, empty, "recipe", "check", "quickstart", f"training.init={base}", *TINY)
        assert str(installed) in checked
        assert "Trained on 1 crops" in _typed(
            installed, empty, "train-interpreter", "quickstart", f"training.init={base}", *TINY
        )
    _typed(installed, empty, "evaluate", "quickstart", "training.init=lbc-base", "--no-baseline", *TINY)
    slide = "data/made/slides/made_0_01.ome.tif"
    _typed(installed, empty, "predict", "quickstart", slide, "training.init=lbc-base", *TINY)
    assert "Report:" in _typed(installed, empty, "report", "quickstart", "training.init=lbc-base", *TINY)
    assert (empty / "runs/quickstart/predictions/made_0_01/preview.png").is_file()
