"""Import order of the rooms, checked in every file."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

WORDS = {
    "cytoseg",
    "errors",
    "geometry",
    "classes",
    "allocator",
    "devices",
    "distributed",
    "seeds",
    "runs",
    "running",
    "checkpoints",
    "torch_files",
    "torch_defaults",
    "memory_use",
    "shipped",
}
WORDS |= {"writing", "locks", "leftovers", "interrupts", "process_table"}
WORDS |= {"csv_table", "patterns", "records", "caches"}
WORDS |= {"quoting", "limits", "json_text", "yaml_text", "terminal", "duration_text", "time_left", "settings"}
ORDER = (
    {"words"},
    {"drawing", "metrics"},
    {"slides"},
    {"maps", "synthetic", "formats"},
    {"labels", "diffusion"},
    {"features"},
    {"interpreter"},
    {"objects"},
    {"predict"},
    {"evaluation"},
    {"reporting", "review", "viewer"},
    {"active_learning"},
    {"anomaly"},
    {"studies"},
    {"jobs"},
    {"recipe"},
    {"workflows"},
    {"commands"},
    {"api"},
    {"cli"},
    {"apps"},
)
HEIGHT = {room: height for height, rooms in enumerate(ORDER) for room in rooms}

ONLY_IN = {
    "pydantic": ("cytoseg/settings.py", "cytoseg/records.py", "cytoseg/recipe/"),
    "ruamel": ("cytoseg/yaml_text.py", "cytoseg/recipe/", "cytoseg/workflows/", "cytoseg/commands/", "cytoseg/cli.py"),
    "yaml": (),  # ruamel.yaml reads YAML 1.2
    "typer": ("cytoseg/recipe/", "cytoseg/workflows/", "cytoseg/commands/", "cytoseg/cli.py"),
    "streamlit": ("apps/",),
    "starlette": ("apps/",),
    "plotly": ("apps/",),
    "sqlalchemy": ("cytoseg/review/", "cytoseg/jobs/"),
    "openslide": ("cytoseg/slides/openslide.py",),
    "zarr": ("cytoseg/slides/zarr.py",),
    "numcodecs": ("cytoseg/slides/zarr.py",),
    "denoising_diffusion_pytorch": ("cytoseg/diffusion/import_lucidrains.py",),
    "torchvision": ("cytoseg/diffusion/import_lucidrains.py",),
    "labelme": (),  # GPL-3.0: its files are read, it never is
}
"""Library to the files that may import it."""

PUBLIC_API = "cytoseg/__init__.py"
"""Names what all rooms offer, and loads it when it is used."""

INSIDE_FUNCTIONS = (
    PUBLIC_API,
    "cytoseg/slides/open.py",
    "cytoseg/cli.py",
    "cytoseg/__main__.py",
    "apps/review/lazy_networks.py",
)


@dataclass(frozen=True)
class Import:
    """One imported module: its dotted name, the line, and whether it stands inside a function."""

    module: str
    line: int
    inside_function: bool


def imports_of(source: str) -> Iterator[Import]:
    """Find every import of a file, also those written as a call of ``import_module``."""
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(source), False)]
    while waiting:
        node, inside = waiting.pop()
        for module in _modules(node):
            yield Import(module, getattr(node, "lineno", 0), inside)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        waiting += [(child, inside) for child in ast.iter_child_nodes(node)]


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return ["." * node.level + (node.module or "")]
        # ``from cytoseg import recipe`` imports a room, ``from cytoseg.slides import tiff`` a file of one.
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args:
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        return [_text(node.args[0])] if called in ("import_module", "__import__") else []
    return []


def _text(node: ast.expr) -> str:
    """The name in a call: of a formatted string its fixed beginning, of anything else nothing."""
    if isinstance(node, ast.JoinedStr):
        return _text(node.values[0])
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def room_of_file(path: str) -> str:
    """Name the room a file stands in, such as ``slides`` for ``cytoseg/slides/tiff.py``."""
    parts = Path(path).with_suffix("").parts
    if parts[0] == "apps":
        return "apps"
    return room_of_module(".".join(parts))


def room_of_module(module: str) -> str:
    """Name the room of a module of ours."""
    parts = module.split(".")
    if len(parts) == 1 or parts[1] in WORDS or parts[1] in ("__init__", "__version__"):
        return "words"
    return "cli" if parts[1] == "__main__" else parts[1]


def problems_of(path: str, source: str) -> list[str]:
    """List what is wrong with a file's imports, one sentence each."""
    problems = []
    for found in imports_of(source):
        where = f"{path}:{found.line}: {found.module}"
        top = found.module.split(".")[0]
        if found.module.startswith("."):
            problems.append(f"{where}: write the import in full")
        elif top == "cytoseg":
            problems += [f"{where}: {reason}" for reason in _room_problems(path, found)]
        elif top in ONLY_IN and not path.startswith(ONLY_IN[top] or ("nowhere",)):
            problems.append(f"{where}: {top} is for {', '.join(ONLY_IN[top]) or 'nobody'}")
    return problems


def _room_problems(path: str, found: Import) -> list[str]:
    problems = []
    if found.inside_function and path not in INSIDE_FUNCTIONS:
        problems.append("an import of ours inside a function")
    if path == PUBLIC_API:
        return problems
    here, there = room_of_file(path), room_of_module(found.module)
    unknown = {here, there} - HEIGHT.keys()
    if unknown:
        return [*problems, f"nobody knows the room {', '.join(unknown)}"]
    if not _may_import(here, there):
        problems.append(f"{here} must not import {there}")
    return problems


def _may_import(here: str, there: str) -> bool:
    if here == there:
        return True
    return HEIGHT[there] < HEIGHT[here]


def _files() -> list[str]:
    found = sorted([*ROOT.glob("cytoseg/**/*.py"), *ROOT.glob("apps/**/*.py")])
    return [p.relative_to(ROOT).as_posix() for p in found if "_shipped" not in p.parts]


def test_every_import_goes_downwards() -> None:
    files = _files()
    assert len(files) > 40
    problems = [problem for path in files for problem in problems_of(path, (ROOT / path).read_text(encoding="utf-8"))]
    assert problems == []


@pytest.mark.parametrize(
    ("path", "source", "problem"),
    [
        ("cytoseg/slides/tiff.py", "from cytoseg.formats.raster import fill", "slides must not import formats"),
        ("cytoseg/slides/tiff.py", "import cytoseg.recipe", "slides must not import recipe"),
        ("cytoseg/slides/tiff.py", "from cytoseg import recipe", "slides must not import recipe"),
        ("cytoseg/slides/tiff.py", "if X:\n    from cytoseg.cli import main", ":2: .* slides must not import cli"),
        ("cytoseg/labels/index.py", "from cytoseg.diffusion.unet import Unet", "labels must not import diffusion"),
        ("cytoseg/diffusion/unet.py", "from cytoseg.labels.index import read", "diffusion must not import labels"),
        ("cytoseg/errors.py", "from cytoseg.slides.open import open_slide", "words must not import slides"),
        ("cytoseg/runs.py", "from cytoseg.metrics.results import Score", "words must not import metrics"),
        ("cytoseg/metrics/counts.py", "from cytoseg.slides.open import x", "metrics must not import slides"),
        ("cytoseg/commands/report.py", "from cytoseg.cli import main", "commands must not import cli"),
        ("cytoseg/commands/report.py", "from cytoseg.api.bundle import load_bundle", "commands must not import api"),
        ("cytoseg/api/bundle.py", "from cytoseg.cli import main", "api must not import cli"),
        (
            "cytoseg/cli.py",
            "import importlib\nimportlib.import_module(f'cytoseg.apps.{x}')",
            "cli must not import apps",
        ),
        ("cytoseg/slides/a.py", "from cytoseg.extras import x", "nobody knows the room extras"),
        ("cytoseg/slides/a.py", "from .tiff import x", "write the import in full"),
        ("cytoseg/slides/a.py", "def f():\n    from cytoseg.errors import SlideError", "inside a function"),
        ("cytoseg/slides/a.py", "async def f():\n    import cytoseg.errors", "inside a function"),
        ("cytoseg/slides/a.py", "def f():\n    import_module('cytoseg.errors')", "inside a function"),
        ("apps/review/state.py", "def f():\n    from cytoseg.errors import SlideError", "inside a function"),
        ("cytoseg/slides/crops.py", "import pydantic", "pydantic is for cytoseg/settings.py, cytoseg/records.py, "),
        ("cytoseg/labels/index.py", "from ruamel.yaml import YAML", "ruamel is for cytoseg/yaml_text.py"),
        ("cytoseg/recipe/file.py", "import yaml", "yaml is for nobody"),
        ("cytoseg/runs.py", "import typer", "typer is for"),
        ("cytoseg/commands/review.py", "import streamlit as st", "streamlit is for apps/"),
        ("apps/review/state.py", "from sqlalchemy import text", "sqlalchemy is for cytoseg/review/"),
        ("cytoseg/viewer/deep_zoom.py", "from starlette.routing import Route", "starlette is for apps/"),
        ("cytoseg/slides/open.py", "def f():\n    import openslide", "openslide is for cytoseg/slides/openslide.py"),
        ("cytoseg/slides/ngff.py", "import zarr", "zarr is for cytoseg/slides/zarr.py"),
        ("cytoseg/slides/convert.py", "from numcodecs import Blosc", "numcodecs is for cytoseg/slides/zarr.py"),
        ("cytoseg/diffusion/unet.py", "from torchvision import ops", "torchvision is for"),
        ("cytoseg/diffusion/unet.py", "__import__('torchvision')", "torchvision is for"),
        ("cytoseg/diffusion/train.py", "import denoising_diffusion_pytorch", "denoising_diffusion_pytorch is for"),
        ("cytoseg/formats/labelme.py", "from labelme import utils", "labelme is for nobody"),
    ],
)
def test_a_wrong_import_is_found(path: str, source: str, problem: str) -> None:
    (found,) = problems_of(path, source)
    assert found.startswith(f"{path}:")
    assert re.search(problem, found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cytoseg/slides/tiff.py", "from cytoseg.errors import SlideError\nfrom cytoseg.slides.pyramid import x"),
        ("cytoseg/runs.py", "import cytoseg\nfrom cytoseg import __version__"),
        ("cytoseg/__init__.py", "from cytoseg.api.bundle import load_bundle"),
        ("cytoseg/api/diffusion.py", "from cytoseg.commands import train_ddpm"),
        ("cytoseg/features/extract.py", "from cytoseg.diffusion.unet import tapped\nimport torch"),
        ("cytoseg/labels/contact_sheet.py", "from cytoseg.drawing.pictures import ramp"),
        ("cytoseg/cli.py", "def f():\n    from cytoseg.commands import slides"),
        ("cytoseg/slides/open.py", "def f():\n    from cytoseg.slides.openslide import OpenSlideSlide"),
        ("cytoseg/__main__.py", "from cytoseg.cli import main"),
        ("apps/review/app.py", "import streamlit\nimport state\nfrom cytoseg.recipe import load_recipe"),
        ("cytoseg/diffusion/import_lucidrains.py", "def f():\n    importlib.import_module('torchvision')"),
    ],
)
def test_a_right_import_is_not(path: str, source: str) -> None:
    assert problems_of(path, source) == []
