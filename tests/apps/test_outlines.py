"""Outlines of objects: what the viewer receives, what is served, and what is refused."""

import asyncio
import importlib
import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from starlette.requests import Request
from streamlit.testing.v1 import AppTest

from tests.apps.conftest import APP
from tests.apps.sighted import add_objects, told_viewer

Get = Callable[[str], tuple[int, bytes]]
VIEW = "x=0&y=0&width=600&height=600&pixel=1"


@pytest.fixture
def prediction(sighted: Path) -> Path:
    folder = sighted / "predictions" / "board"
    add_objects(folder, 600)
    return folder


@pytest.fixture
def get(prediction: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Get:
    """Ask for what stands behind /outlines/, with a query."""
    monkeypatch.syspath_prepend(str(APP.parent))
    monkeypatch.setattr(sys, "argv", ["serve.py", "--runs", str(tmp_path / "runs"), "--base", str(tmp_path)])
    module: ModuleType = importlib.import_module("outlines")
    monkeypatch.setattr(module.tiles, "LISTED_S", 1e-3)

    def ask(address: str) -> tuple[int, bytes]:
        rest, _, query = address.partition("?")
        scope = {"type": "http", "headers": [], "path_params": {"rest": rest}, "query_string": query.encode()}
        answer = asyncio.run(module.outlines(Request(scope)))
        assert answer.headers["cache-control"] == "no-store"
        return answer.status_code, bytes(answer.body)

    return ask


def test_the_objects_in_view_are_served(get: Get) -> None:
    status, body = get(f"sighted/board?{VIEW}")
    found = json.loads(body)
    assert (status, found["total"], [one["id"] for one in found["objects"]]) == (200, 3, [1, 2, 3])
    assert [one["class"] for one in found["objects"]] == ["cell", "cell", "background"]
    (ring,) = found["objects"][0]["rings"]
    assert (min(ring[::2]), max(ring[::2]), min(ring[1::2]), max(ring[1::2])) == (100, 200, 0, 100)
    few = json.loads(get("sighted/board?x=290&y=300&width=50&height=50&pixel=0.25")[1])
    assert [one["id"] for one in few["objects"]] == [3]


def test_zipped_outlines_are_served(get: Get, prediction: Path) -> None:
    _, before = get(f"sighted/board?{VIEW}")
    with zipfile.ZipFile(prediction / "objects.geojson.zip", "w") as archive:
        archive.write(prediction / "objects.geojson", "objects.geojson")
    (prediction / "objects.geojson").unlink()
    assert get(f"sighted/board?{VIEW}") == (200, before)


@pytest.mark.parametrize(
    "address",
    [
        f"sighted/nowhere?{VIEW}",
        f"elsewhere/board?{VIEW}",
        f"sighted?{VIEW}",
        f"sighted/board/../../recipe.yaml?{VIEW}",
        "sighted/board",
        "sighted/board?x=0&y=0&width=0&height=600&pixel=1",
        "sighted/board?x=0&y=0&width=6e9&height=600&pixel=1",
        "sighted/board?x=0&y=0&width=600&height=600&pixel=nan",
        "sighted/board?x=0&y=0&width=600&height=600&pixel=-1",
    ],
)
def test_nothing_else_is_served(get: Get, address: str) -> None:
    assert get(address) == (404, b"There are no such outlines.")


@pytest.mark.parametrize(
    ("name", "text"),
    [("objects.geojson", "nonsense"), ("cells.csv", "nonsense"), ("class_map.ome.tif", "nonsense")],
)
def test_damage_is_one_line(get: Get, prediction: Path, name: str, text: str) -> None:
    (prediction / name).write_text(text)
    assert get(f"sighted/board?{VIEW}") == (404, b"The outlines cannot be shown.")


@pytest.mark.posix
@pytest.mark.parametrize("name", ["objects.geojson", "cells.csv"])
def test_a_link_is_not_followed(get: Get, prediction: Path, tmp_path: Path, name: str) -> None:
    shutil.move(prediction / name, tmp_path / "elsewhere")
    (prediction / name).symlink_to(tmp_path / "elsewhere")
    assert get(f"sighted/board?{VIEW}") == (404, b"The outlines cannot be shown.")


def test_the_page_offers_outlines_of_the_shown_classes(
    review: Callable[..., AppTest], prediction: Path, tmp_path: Path
) -> None:
    app = review("slides", "--base", str(tmp_path))
    assert not app.exception

    def told() -> dict[str, Any]:
        found: dict[str, Any] = told_viewer(app)["outlines"]
        return found

    assert told()["address"] == "/outlines/sighted/board"
    assert told()["colours"] == {"background": "rgb(240,240,240)", "cell": "rgb(0,114,178)"}
    assert told()["shown"] == ["cell"]
    toggle = next(one for one in app.toggle if one.label == "Outlines of objects")
    toggle.set_value(False).run()
    assert told() is None
    (prediction / "objects.geojson").unlink()
    toggle.set_value(True).run()
    assert told() is None
    assert "Outlines of objects" not in [one.label for one in app.toggle]
