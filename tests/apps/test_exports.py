"""Downloads of prediction files: served and refused requests."""

import asyncio
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from starlette.requests import Request

from cytoseg.predict.sign_off_file import SignedOff, write_signed_off
from tests.apps.conftest import APP

Get = Callable[[str], tuple[int, dict[str, str], bytes]]


@pytest.fixture
def get(sighted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Get:
    """Ask for what stands behind /files/."""
    monkeypatch.syspath_prepend(str(APP.parent))
    monkeypatch.setattr(sys, "argv", ["serve.py", "--runs", str(sighted.parent), "--base", str(tmp_path)])
    module: ModuleType = importlib.import_module("exports")
    monkeypatch.setattr(module.tiles, "LISTED_S", 1e-3)

    def ask(rest: str) -> tuple[int, dict[str, str], bytes]:
        is_report = rest.startswith("report/")
        answering = module.report if is_report else module.file
        given = {"run": rest.partition("/")[2]} if is_report else {"rest": rest}
        scope = {"type": "http", "method": "GET", "headers": [], "path_params": given}
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def answer() -> None:
            response = await answering(Request(scope))
            await response(scope, _nothing, send)

        asyncio.run(answer())
        headers = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
        return sent[0]["status"], headers, b"".join(part.get("body", b"") for part in sent[1:])

    return ask


async def _nothing() -> dict[str, str]:
    await asyncio.sleep(3600)
    return {}


def test_a_file_is_sent_as_it_lies_there_under_the_name_of_its_slide(get: Get, sighted: Path) -> None:
    status, headers, body = get("sighted/board/class_map.ome.tif")
    assert status == 200
    assert body == (sighted / "predictions" / "board" / "class_map.ome.tif").read_bytes()
    assert headers["content-disposition"] == 'attachment; filename="board_class_map.ome.tif"'
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "rest",
    [
        "sighted/board/cells.csv",  # not there
        "sighted/board/preview.png",  # not one of these
        "sighted/board/../../recipe.yaml",
        "sighted/nowhere/summary.json",
        "elsewhere/board/summary.json",
        "sighted/board",
        "",
    ],
)
def test_nothing_else_is_sent(get: Get, rest: str) -> None:
    status, _, body = get(rest)
    assert (status, body) == (404, b"There is no such file.")


@pytest.mark.posix
def test_a_link_that_leads_out_of_the_run_is_not_followed(get: Get, sighted: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("secret")
    (sighted / "predictions" / "board" / "cells.csv").symlink_to(tmp_path / "secret.csv")
    assert get("sighted/board/cells.csv")[0] == 404


def test_the_report_is_made_and_names_who_signed_off(get: Get, sighted: Path) -> None:
    said = SignedOff("board", "approved", "Anna <Øster>", "2026-11-29T10:00:00+00:00", "fine", "ab" * 32)
    write_signed_off(sighted / "predictions" / "board", said)
    status, headers, body = get("report/sighted")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''sighted-report.html"
    assert "Signed off: approved by Anna &lt;Øster&gt;, 2026-11-29" in body.decode()
    assert f"bundle {'ab' * 32}" in body.decode()


def test_a_report_that_cannot_be_made_is_one_line(get: Get, sighted: Path, tmp_path: Path) -> None:
    assert get("report/nowhere")[::2] == (404, b"There is no such run.")
    (sighted / "run.json").write_text("{")
    status, _, body = get("report/sighted")
    assert status == 409
    assert body.decode().startswith("The report cannot be created. sighted/run.json: ")
    assert str(tmp_path) not in body.decode()
