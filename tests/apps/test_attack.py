"""The served review under hostile requests, and its own outgoing connections."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.apps.sighted import RECIPE, make_run

ROOT = Path(__file__).parents[2]
WATCH = """\
import os, sys

def watch(event, given):
    if not event.startswith("socket."):
        return
    if event in ("socket.connect", "socket.sendto"):
        place = given[1][0] if isinstance(given[1], tuple) else "localhost"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"):
        place = given[0][0] if isinstance(given[0], tuple) else given[0]
    else:
        return
    text = place.decode() if isinstance(place, bytes) else str(place)
    if not (text in ("None", "", "localhost", "::1", "0.0.0.0", "::") or text.startswith("127.")):
        with open(os.environ["WATCHED"], "a") as file:
            print(event, text, file=file)
        raise OSError("this test allows no connection")

sys.addaudithook(watch)
"""
"""Python runs it at the start of each process: looking up a name or connecting is written down, and refused."""

TILE = "/tiles/sighted/slide/board/0/0_0.jpg"
FILE = "/files/sighted/board/class_map.ome.tif"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
STREAM = "/_stcore/stream"


@dataclass(frozen=True)
class Served:
    """The running app: its port, the token, and the file of what it looked up outside."""

    port: int
    token: str
    said: str
    watched: Path

    def ask(self, path: str, *, method: str = "GET", cookie: bool = True, **headers: str) -> tuple[int, bytes]:
        """Send a request exactly as it is written, underscores in names of headers being dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            sent = {"Host": f"127.0.0.1:{self.port}"} | {n.replace("_", "-"): text for n, text in headers.items()}
            if cookie:
                sent["Cookie"] = f"cytoseg_review_{self.port}={self.token}"
            for name, text in sent.items():
                connection.putheader(name, text)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, b"" if answer.status == 101 else answer.read()
        finally:
            connection.close()

    def upgrade(self, *, cookie: bool = True, path: str = STREAM, **headers: str) -> int:
        """Ask for a WebSocket; gives the status, 101 if it is opened."""
        return self.ask(path, cookie=cookie, **UPGRADE, **headers)[0]


def _surroundings(folder: Path) -> dict[str, str]:
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WATCH)
    paths = os.pathsep.join(map(str, (folder / "watch", ROOT)))
    return os.environ | {"PYTHONPATH": paths, "WATCHED": str(folder / "watched"), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module", params=["127.0.0.1", pytest.param("0.0.0.0", marks=pytest.mark.slow)])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("attacked")
    make_run(folder, size_px=600)
    (folder / "sighted.yaml").write_text(RECIPE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = [f"review.host={request.param}", f"review.port={port}"]
    command = [sys.executable, "-u", "-m", "cytoseg", "review", "sighted.yaml", *settings]
    with (
        (folder / "said").open("w") as said,
        subprocess.Popen(
            command, cwd=folder, env=_surroundings(folder), stdout=said, stderr=said, start_new_session=True
        ) as server,
    ):
        try:
            _wait_for(port, server)
            told = (folder / "said").read_text()
            token = told.partition("?token=")[2].split()[0]
            yield Served(port, token, told, folder / "watched")
        finally:
            os.killpg(server.pid, signal.SIGKILL)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the review did not start (exit status {server.poll()})")


@pytest.fixture(autouse=True)
def _nobody_outside_is_asked(served: Served) -> Iterator[None]:
    yield
    assert not served.watched.exists(), served.watched.read_text()


def test_the_watch_sees_who_looks_outside(tmp_path: Path) -> None:
    """Streamlit's own look-up of the outer address, without a guard before it."""
    look = "from streamlit import net_util; print(net_util.get_external_ip())"
    told = subprocess.run(
        [sys.executable, "-c", look], env=_surroundings(tmp_path), check=True, capture_output=True, text=True
    )
    assert told.stdout.split() == ["None"]
    assert (tmp_path / "watched").read_text().startswith("socket.getaddrinfo ")


@pytest.mark.posix
def test_the_start_prints_the_link_and_no_other_address(served: Served) -> None:
    assert f"Review: http://127.0.0.1:{served.port}/?token={served.token}" in served.said
    assert "URL:" not in served.said
    assert len(served.token) == 32


@pytest.mark.posix
def test_with_the_cookie_everything_is_there(served: Served) -> None:
    assert served.ask("/")[0] == 200
    assert served.ask("/slides?run=sighted")[0] == 200
    assert served.ask(TILE)[0] == 200
    assert served.ask(FILE)[0] == 200
    assert served.upgrade(Origin=f"http://127.0.0.1:{served.port}") == 101
    assert served.ask("/_stcore/health", cookie=False) == (200, b"ok")


@pytest.mark.posix
def test_uploads_are_not_accepted(served: Served) -> None:
    """Streamlit itself would answer 204 or 400 to the first, and say in its headers what it accepts to the last."""
    for method in ("PUT", "POST", "DELETE", "OPTIONS"):
        status, said = served.ask("/_stcore/upload_file/a/b", method=method)
        assert (status, b"accepts no uploads" in said) == (403, True)


@pytest.mark.posix
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/slides",
        TILE,
        FILE,
        "/jobs",
        "/predict",
        "/annotate",
        "/vendor/openseadragon.min.js",
        "/_stcore/host-config",
        "/_stcore/script-health-check",
        "/_stcore/metrics",
        "/_stcore/upload_file/a/b",
        "/media/a.png",
        "/static/index.html",
        "/_stcore/bidi-components/a",
        "/component/a/b",
        "/nowhere",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//_stcore/health",
        "/_stcore/health/../host-config",
        "/_stcore/health%2f..%2fhost-config",
    ],
)
def test_without_the_token_every_route_is_shut(served: Served, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        assert served.ask(path, method=method, cookie=False)[0] == 403
    assert served.upgrade(path=path, cookie=False) == 403
    assert served.ask(f"{path}?token=wrong", cookie=False)[0] == 403


@pytest.mark.posix
def test_foreign_pages_are_turned_away_at_once_however_many(served: Served) -> None:
    """Each of them took Streamlit two seconds, in which it answered no request."""
    statuses: list[int] = []
    origins = [f"http://{name}" for name in ("evil.example", "localhost:9999", "127.0.0.1", "203.0.113.7:80")]
    threads = [
        threading.Thread(target=lambda origin: statuses.append(served.upgrade(Origin=origin)), args=(origin,))
        for origin in 10 * origins
    ]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    assert served.ask("/_stcore/health")[0] == 200
    for thread in threads:
        thread.join()
    assert statuses == [403] * 40
    assert time.monotonic() - begin < 5


@pytest.mark.posix
@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "localhost:9999", "203.0.113.7:{port}", ""])
def test_other_names_are_refused(served: Served, host: str) -> None:
    named = host.format(port=served.port)
    for path in ("/", TILE, FILE, STREAM, "/_stcore/health"):
        assert served.ask(path, Host=named) == (400, b"Invalid host header")
    assert served.upgrade(Host=named, Origin=f"http://{named}") == 403


@pytest.mark.posix
@pytest.mark.parametrize(
    "path",
    [
        "/tiles/sighted/slide/..%2f..%2fslides%2fboard/0/0_0.jpg",
        "/tiles/sighted/slide/%252e%252e/0/0_0.jpg",
        "/tiles/..%2f..%2f..%2fetc%2fpasswd",
        "/tiles/sighted/slide/board/0/0_0.jpg%00.png",
        "/files/sighted/board/..%2f..%2f..%2frecipe.yaml",
        "/files/sighted/..%2f../recipe.yaml",
        "/files/..%2f..%2f..%2fetc/passwd/cells.csv",
        "/files/sighted/board/summary.json%00.csv",
        "/vendor/..%2fserve.py",
        "/static/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/media/..%2f..%2fetc%2fpasswd",
        "/..%5c..%5cetc%5cpasswd",
        "/" + 20_000 * "a",
    ],
)
def test_no_path_leads_out(served: Served, path: str) -> None:
    status, body = served.ask(path)
    assert status in (200, 400, 404)  # 200 is the page that Streamlit shows at any address
    assert b"root:" not in body
    assert b"Guard" not in body
    assert b"name: sighted" not in body


@pytest.mark.posix
@pytest.mark.parametrize("size", [10_000, 200_000])
def test_oversized_headers_are_no_harm(served: Served, size: int) -> None:
    # The server may hang up while a header is still being sent that is too long for it.
    try:
        status = served.ask("/", cookie=False, Cookie=f"cytoseg_review_{served.port}={size * 'x'}")[0]
    except (ConnectionError, http.client.HTTPException):
        status = 400
    assert status in (400, 403, 431)
    assert served.ask("/_stcore/health")[0] == 200


@pytest.mark.posix
@pytest.mark.parametrize("sent", [b"\0\0\0\0", b"GET\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_no_request_gets_no_page(served: Served, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), 5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(10_000)
    assert answer == b"" or answer.split()[1] == b"400"


@pytest.mark.slow
@pytest.mark.posix
def test_many_clients_are_served_at_once(served: Served) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.extend(served.ask(TILE)[0] for _ in range(10))) for _ in range(32)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 320
