"""Slide tiles over HTTP: content and refused requests."""

import http.client
import importlib
import json
import logging
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.applications import Starlette

from tests.apps.conftest import APP, SIGHTED_PX
from tests.apps.sighted import CELL, GLASS, squares

Answer = tuple[int, http.client.HTTPMessage, bytes]
Get = Callable[[str], Answer]
SLIDE = "/tiles/sighted/slide/board"


@pytest.fixture
def run(sighted: Path) -> Path:
    return sighted


@pytest.fixture
def tiles(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, told of the run and of nothing from before."""
    monkeypatch.syspath_prepend(str(APP.parent))
    arguments = ["--runs", str(run.parent), "--base", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["serve.py", *arguments])
    module = importlib.import_module("tiles")
    monkeypatch.setattr(module, "LISTED_S", 1e-3)  # what a test changes is seen at once
    return module


@pytest.fixture
def served(tiles: ModuleType) -> Iterator[tuple[uvicorn.Server, int]]:
    """The routes, served on a free port."""
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=tiles.ROUTES), log_level="error", lifespan="off"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield server, listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
            tiles._SERVICE.close()


@pytest.fixture
def get(served: tuple[uvicorn.Server, int]) -> Get:
    """Ask for a path exactly as it is written."""

    def ask(path: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", served[1], timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    return ask


def test_a_tile_of_the_slide_is_a_jpeg_of_that_place(get: Get) -> None:
    status, headers, body = get(f"{SLIDE}/2/1_1.jpg?v=1")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert headers["cache-control"] == "private, max-age=3600"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    with Image.open(BytesIO(body)) as picture:
        seen = np.asarray(picture).astype(int)
    expected = np.array([GLASS, CELL])[squares(SIGHTED_PX)[256:512, 256:512]]
    assert np.abs(seen - expected).mean() < 3


def test_a_tile_of_the_class_map_paints_the_chosen_classes(get: Get) -> None:
    status, headers, body = get("/tiles/sighted/classes/board/2/0_2.png?classes=1,x,99999,7")
    assert (status, headers["content-type"]) == (200, "image/png")
    with Image.open(BytesIO(body)) as picture:
        rgba = np.asarray(picture.convert("RGBA"))
    np.testing.assert_array_equal(rgba[..., 3] == 255, squares(SIGHTED_PX)[512:, :256] == 1)
    assert rgba[0, 0].tolist() == [0, 114, 178, 255]
    with Image.open(BytesIO(get("/tiles/sighted/classes/board/2/0_2.png")[2])) as picture:
        assert not np.asarray(picture.convert("RGBA"))[..., 3].any()


@pytest.mark.parametrize("layer", ["uncertainty", "truth"])
def test_the_other_layers_are_there(get: Get, layer: str) -> None:
    status, _, body = get(f"/tiles/sighted/{layer}/board/0/0_0.png?classes=1")
    assert (status, body[:4]) == (200, b"\x89PNG")


def test_the_library_of_the_viewer_is_given_with_its_licence_beside_it(get: Get) -> None:
    status, headers, body = get("/vendor/openseadragon.min.js")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/javascript")
    assert b"openseadragon 6.1.1" in body[:200]
    assert "CodePlex Foundation" in (APP.parent / "vendor" / "openseadragon.LICENSE.txt").read_text()


@pytest.mark.parametrize(
    "path",
    [
        "/tiles/",
        "/tiles/sighted",
        "/tiles/other/slide/board/0/0_0.jpg",
        "/tiles/../slide/board/0/0_0.jpg",
        "/tiles/%2e%2e/slide/board/0/0_0.jpg",
        "/tiles/sighted/secret/board/0/0_0.png",
        "/tiles/sighted/../board/0/0_0.jpg",
        "/tiles/sighted/slide/other/0/0_0.jpg",
        "/tiles/sighted/slide/board.ome.tif/0/0_0.jpg",
        "/tiles/sighted/slide/../../../../etc/passwd",
        "/tiles/sighted/slide/%2e%2e/0/0_0.jpg",
        "/tiles/sighted/slide/..%2f..%2fslides%2fboard/0/0_0.jpg",
        "/tiles/sighted/slide/%2fetc%2fpasswd/0/0_0.jpg",
        "/tiles/sighted/slide//etc/passwd/0/0_0.jpg",
        "/tiles/sighted/slide/{slides}/0/0_0.jpg",
        "/tiles/sighted/slide/%00/0/0_0.jpg",
        "/tiles/sighted/slide/..%5cboard/0/0_0.jpg",
        f"{SLIDE}/3/0_0.jpg",
        f"{SLIDE}/-1/0_0.jpg",
        f"{SLIDE}/99999999999/0_0.jpg",
        f"{SLIDE}/0/1_0.jpg",
        f"{SLIDE}/0/0_0.png",
        f"{SLIDE}/0/0_0.jpg/",
        f"{SLIDE}/0/0_0",
        f"{SLIDE}/0/-1_0.jpg",
        f"{SLIDE}/0/9999999_0.jpg",
        f"{SLIDE}/%D9%A0/0_0.jpg",  # a zero, in Arabic
        "/vendor/../tiles.py",
        "/vendor/openseadragon.LICENSE.txt",
    ],
)
def test_everything_else_is_refused_in_a_plain_line(get: Get, tmp_path: Path, path: str) -> None:
    written = path.replace("{slides}", str(tmp_path / "slides" / "board.ome.tif").replace("/", "%2f"))
    status, _, body = get(written)
    assert status == 404
    assert body.decode() in ("There is no such tile.", "This tile cannot be shown.", "Not Found")


def test_only_getting_is_possible(tiles: ModuleType) -> None:
    assert all(route.methods == {"GET", "HEAD"} for route in tiles.ROUTES)


@pytest.mark.posix
def test_a_link_out_of_the_folders_is_not_served(get: Get, run: Path, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "slides" / "board.ome.tif", tmp_path / "secret.ome.tif")
    (tmp_path / "slides" / "link.ome.tif").symlink_to(tmp_path / "secret.ome.tif")
    assert get("/tiles/sighted/slide/link/0/0_0.jpg")[0] == 404
    (tmp_path / "slides" / "link.ome.tif").unlink()
    shutil.copy(tmp_path / "secret.ome.tif", tmp_path / "slides" / "link.ome.tif")
    assert get("/tiles/sighted/slide/link/0/0_0.jpg")[0] == 200


@pytest.mark.posix
def test_a_slide_is_not_served_once_a_link_stands_in_its_place(
    get: Get, run: Path, tmp_path: Path, tiles: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "LISTED_S", 1e6)
    assert get(f"{SLIDE}/0/0_0.jpg")[0] == 200
    slide = tmp_path / "slides" / "board.ome.tif"
    slide.rename(tmp_path / "secret.ome.tif")
    assert get(f"{SLIDE}/0/0_0.jpg")[0] == 404
    slide.symlink_to(tmp_path / "secret.ome.tif")
    assert get(f"{SLIDE}/0/0_0.jpg")[0] == 404


def test_a_summary_cannot_name_another_file(get: Get, run: Path, tmp_path: Path) -> None:
    other = shutil.copy(tmp_path / "slides" / "board.ome.tif", tmp_path / "private.ome.tif")
    folder = run / "predictions" / "private"
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps({"slide_path": str(other)}))
    assert get("/tiles/sighted/slide/private/0/0_0.jpg")[0] == 404


@pytest.mark.parametrize("damage", ["slide", "class map", "recipe", "no recipe"])
def test_damage_is_a_plain_line_and_the_log_says_more(
    get: Get, run: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    if damage == "slide":
        (tmp_path / "slides" / "board.ome.tif").write_bytes(b"II*\0nonsense")
    elif damage == "class map":
        (run / "predictions" / "board" / "class_map.ome.tif").write_bytes(b"II*\0nonsense")
    elif damage == "recipe":
        (run / "recipe.yaml").write_text("name: sighted\nclasses: 7\n")
    else:
        (run / "recipe.yaml").rename(run / "run.json")
    with caplog.at_level(logging.WARNING):
        status, headers, body = get("/tiles/sighted/classes/board/0/0_0.png?classes=1")
    assert (status, body, headers["cache-control"]) == (404, b"This tile cannot be shown.", "no-store")
    assert "tile refused" in caplog.text


@pytest.mark.slow
def test_many_threads_get_the_same_tiles(get: Get) -> None:
    paths = [f"{SLIDE}/{step}/0_0.jpg" for step in range(3)]
    paths += [f"/tiles/sighted/{layer}/board/1/1_0.png?classes=1" for layer in ("classes", "uncertainty", "truth")]
    alone = {path: get(path)[2] for path in paths}
    wrong: list[str] = []

    def ask() -> None:
        wrong.extend(path for path in paths * 3 if get(path)[2] != alone[path])

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_slide_that_never_answers_holds_up_no_other(
    get: Get, run: Path, tmp_path: Path, tiles: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its readers took all threads that the server has, forty of them, and no other request got a tile or a page."""
    shutil.copy(tmp_path / "slides" / "board.ome.tif", tmp_path / "slides" / "dead.ome.tif")
    back, opener = threading.Event(), tiles._SERVICE._slides._opener
    monkeypatch.setattr(tiles._SERVICE._slides, "_opener", lambda path: back.wait(20) and opener(path))
    monkeypatch.setattr(tiles.LANES, "limit_s", 1.0)
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(get("/tiles/sighted/slide/dead/0/0_0.jpg"))) for _ in range(60)
    ]
    try:
        for thread in threads:
            thread.start()
        assert [get("/tiles/sighted/classes/board/1/1_0.png?classes=1")[0] for _ in range(5)] == [200] * 5
        for thread in threads:
            thread.join()
        assert {(status, body) for status, _, body in answers} == {(404, b"This tile cannot be shown.")}
        begin = time.monotonic()
        assert get("/tiles/sighted/slide/dead/0/0_0.jpg")[0] == 404
        assert time.monotonic() - begin < 0.5  # its request was abandoned
    finally:
        back.set()
    end = time.monotonic() + 10
    while get("/tiles/sighted/slide/dead/0/0_0.jpg")[0] != 200:
        assert time.monotonic() < end, "it never came back"


@pytest.mark.posix
def test_a_pipe_in_the_place_of_a_slide_is_refused_at_once(
    get: Get, tmp_path: Path, tiles: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "LISTED_S", 1e6)
    assert get(f"{SLIDE}/0/0_0.jpg")[0] == 200
    (tmp_path / "slides" / "board.ome.tif").unlink()
    os.mkfifo(tmp_path / "slides" / "board.ome.tif")
    begin = time.monotonic()
    assert get(f"{SLIDE}/0/0_0.jpg")[::2] == (404, b"This tile cannot be shown.")
    assert time.monotonic() - begin < 1


@pytest.mark.posix  # Windows refuses the question mark
def test_a_name_with_odd_characters_has_an_address(tiles: ModuleType, get: Get, run: Path, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "slides" / "board.ome.tif", tmp_path / "slides" / "é #1 100%?.ome.tif")
    address = tiles.layer_url(run, "é #1 100%?", "slide")
    assert get(f"{address}/0/0_0.jpg")[0] == 200


def test_a_tile_is_sent_without_waiting_for_an_acknowledgement(served: tuple[uvicorn.Server, int]) -> None:
    server, port = served
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", f"{SLIDE}/0/0_0.jpg")
        connection.getresponse().read()
        (protocol,) = server.server_state.connections
        sending = protocol.transport.get_extra_info("socket")  # type: ignore[union-attr]  # it speaks HTTP
        assert sending.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        connection.close()
