"""Access control before Streamlit: admitted and refused requests."""

import importlib
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from tests.apps.conftest import APP
from tests.event_loop import run

TOKEN, PORT = "the-token_of-the-link", 8501
HOSTS = ("127.0.0.1:8501", "localhost:8501", "[::1]:8501", "lab.example", "lab.example:8501")
COOKIE = ("cookie", f"cytoseg_review_{PORT}={TOKEN}")
HOME = ("host", "localhost:8501")
FOLLOWED = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("accept", "text/html,*/*")]
Pairs = Iterable[tuple[str, str]]
Ask = Callable[..., tuple[int, Headers, str]]


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(APP.parent))
    return importlib.import_module("access_check")


@pytest.fixture
def ask(guard: ModuleType) -> Ask:
    """Send a request, of a WebSocket too; gives status, headers and text, 101 for a WebSocket that was let in."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the page"})

    guarded = guard.Guard(app, TOKEN, HOSTS, PORT)

    def request(headers: Pairs, path: str = "/", query: str = "", **more: Any) -> tuple[int, Headers, str]:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": f"{scope['type']}.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "server": ("127.0.0.1", PORT), **more}
        scope |= {"path": path, "query_string": query.encode()}
        scope["headers"] = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        run(guarded(scope, receive, send))
        if scope["type"] == "websocket":
            return {"websocket.accept": 101, "websocket.close": 403}[sent[0]["type"]], Headers(), ""
        text = b"".join(message["body"] for message in sent[1:]).decode()
        return sent[0]["status"], Headers(raw=sent[0]["headers"]), text

    return request


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_the_cookie_opens_every_listed_name(ask: Ask, host: str, kind: str) -> None:
    own = [("host", host), COOKIE, ("origin", f"http://{host}")]
    assert ask(own, type=kind)[0] == (200 if kind == "http" else 101)
    assert ask([("host", host.upper()), COOKIE], type=kind)[0] == (200 if kind == "http" else 101)


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [""],
        ["evil.example:8501"],
        ["localhost"],
        ["localhost:"],
        ["localhost:9999"],
        ["localhost.:8501"],
        ["localhost:8501.evil.example"],
        ["localhost:8501@evil.example"],
        ["evil.example@localhost:8501"],
        ["localhost:8501/"],
        ["localhost:08501"],
        ["127.1:8501"],
        ["0.0.0.0:8501"],
        ["lab.example:80"],
        ["sub.lab.example"],
        ["*"],
        ["localhost:8501,evil.example"],
        ["localhost:8501", "localhost:8501"],
        ["localhost:8501", "evil.example"],
        ["l\xf6calhost:8501"],
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_any_other_name_is_refused_token_or_not(ask: Ask, hosts: list[str], kind: str) -> None:
    status, _, text = ask([*(("host", host) for host in hosts), COOKIE], type=kind)
    assert (status, text) == ((400, "Invalid host header") if kind == "http" else (403, ""))


@pytest.mark.parametrize(
    ("arrived", "host", "status"),
    [
        (("192.168.1.5", PORT), "192.168.1.5:8501", 200),
        (("::ffff:192.168.1.5", PORT), "192.168.1.5:8501", 200),
        (("fd00::5", PORT), "[fd00::5]:8501", 200),
        (("192.168.1.5", PORT), "192.168.1.6:8501", 400),
        (("192.168.1.5", PORT), "192.168.1.5", 400),
        (None, "192.168.1.5:8501", 400),
        (("/run/socket", None), "None", 400),
    ],
)
def test_the_address_at_which_it_arrives_is_a_name(ask: Ask, arrived: object, host: str, status: int) -> None:
    assert ask([("host", host), COOKIE], server=arrived)[0] == status


@pytest.mark.parametrize(
    "origins",
    [
        ["http://localhost:9999"],
        ["http://localhost"],
        ["https://localhost"],
        ["http://127.0.0.1:8501"],  # another name is another page
        ["http://evil.example"],
        ["http://localhost:8501.evil.example"],
        ["http://localhost:8501@evil.example"],
        ["ftp://localhost:8501"],
        ["http://localhost:8501/"],
        ["http://LOCALHOST:8501"],
        ["null"],
        [""],
        ["file://"],
        ["http://localhost:8501", "http://evil.example"],
        ["http://localhost:8501 http://evil.example"],
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_other_pages_are_refused_though_they_bring_the_cookie(ask: Ask, origins: list[str], kind: str) -> None:
    for path in ("/", "/_stcore/stream", "/_stcore/health", "/tiles/a/slide/b/0/0_0.jpg"):
        status, _, text = ask([HOME, COOKIE, *(("origin", origin) for origin in origins)], path, type=kind)
        assert (status, text) == (403, "The app answers to its own pages only." if kind == "http" else "")


@pytest.mark.parametrize("origin", ["http://localhost:8501", "https://localhost:8501"])
def test_its_own_pages_may_post(ask: Ask, origin: str) -> None:
    assert ask([HOME, COOKIE, ("origin", origin)], method="POST")[0] == 200


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
def test_other_pages_cannot_embed_but_link(ask: Ask, site: str) -> None:
    """A page at another port of this machine is the same site: the browser sends the cookie with its images."""
    said = [HOME, COOKIE, ("sec-fetch-site", site)]
    assert ask([*said, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")])[0] == 403
    assert ask([*said, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")])[0] == 403
    assert ask([*said, *FOLLOWED], method="POST")[0] == 403
    assert ask([*said, *FOLLOWED])[0] == 200
    assert ask([HOME, COOKIE, ("sec-fetch-site", "same-origin"), ("sec-fetch-dest", "image")])[0] == 200


@pytest.mark.parametrize(
    "cookie",
    [
        None,
        "",
        f"cytoseg_review_{PORT}=",
        f"cytoseg_review_{PORT}",
        f"cytoseg_review_{PORT}=wrong",
        f"cytoseg_review_{PORT}={TOKEN}x",
        f"cytoseg_review_{PORT}={TOKEN[:-1]}",
        f"cytoseg_review_{PORT}={TOKEN.upper()}",
        f"cytoseg_review_8502={TOKEN}",
        f"other={TOKEN}",
        f"cytoseg_review_{PORT}=\xff\xfe",
        f"cytoseg_review_{PORT}=" + 60_000 * "x",
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("path", ["/", "/slides", "/_stcore/stream", "/tiles/a/slide/b/0/0_0.jpg", "/_stcore/health/"])
def test_without_the_token_nothing_is_shown(ask: Ask, cookie: str | None, kind: str, path: str) -> None:
    status, _, text = ask([HOME, *([("cookie", cookie)] if cookie is not None else [])], path, type=kind)
    assert status == 403
    assert text.startswith("Open the link that `cytoseg review`") == (kind == "http")
    assert "the page" not in text


def test_a_token_is_found_among_other_cookies(ask: Ask) -> None:
    mine = f"a=b; cytoseg_review_{PORT}=old;cytoseg_review_{PORT}={TOKEN}; c"
    assert ask([HOME, ("cookie", mine)])[0] == 200
    assert ask([HOME, ("cookie", "a=b"), COOKIE])[0] == 200


@pytest.mark.parametrize(
    ("path", "query", "place"),
    [
        ("/", f"token={TOKEN}", "/"),
        ("/slides", f"run=a%20b&token={TOKEN}&x=1&empty=", "/slides?run=a+b&x=1&empty="),
        ("/a b/\u00e9", f"token={TOKEN}", "/a%20b/%C3%A9"),
        ("//evil.example/", f"token={TOKEN}", "/evil.example/"),
        ("/\\evil.example", f"token={TOKEN}", "/%5Cevil.example"),
        ("/", f"token=old&token={TOKEN}", "/"),
    ],
)
def test_the_link_leads_to_the_page_without_the_token(ask: Ask, path: str, query: str, place: str) -> None:
    status, headers, _ = ask([HOME], path, query)
    assert (status, headers["location"], headers["cache-control"]) == (303, place, "no-store")
    assert headers["set-cookie"] == f"cytoseg_review_{PORT}={TOKEN}; HttpOnly; Path=/; SameSite=strict"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    "query", ["token=", "token=wrong", f"TOKEN={TOKEN}", f"xtoken={TOKEN}", "token=%ff%00", "&&=;"]
)
def test_a_wrong_link_is_refused(ask: Ask, query: str) -> None:
    status, headers, text = ask([HOME], "/", query)
    assert (status, "set-cookie" in headers) == (403, False)
    assert text.startswith("Open the link")


def test_an_old_link_is_no_harm_to_who_has_been_let_in(ask: Ask) -> None:
    status, headers, _ = ask([HOME, COOKIE], "/iou", "token=old")
    assert (status, headers["location"]) == (303, "/iou")


def test_health_says_something_to_everybody_by_a_known_name(ask: Ask) -> None:
    assert ask([HOME], "/_stcore/health")[0] == 200
    assert ask([HOME], "/_stcore/health", method="POST")[0] == 403
    assert ask([HOME], "/_stcore/health", type="websocket")[0] == 403
    assert ask([("host", "evil.example")], "/_stcore/health")[0] == 400


def test_people_get_the_message_as_a_page(ask: Ask) -> None:
    status, headers, text = ask([HOME, ("accept", "text/html")])
    assert (status, headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert "Open the link that `cytoseg review` has printed" in text
    assert "refresh" not in text
    assert "add the name to review.names" in ask([("host", "other:8501"), ("accept", "text/html")])[2]


def test_a_link_on_another_page_asks_once_more_with_the_cookie(ask: Ask) -> None:
    """A browser keeps the cookie back while it follows a foreign link; the page that reloads itself is ours."""
    text = ask([HOME, ("sec-fetch-site", "cross-site"), *FOLLOWED])[2]
    assert '<meta http-equiv="refresh" content="0">' in text
    assert "refresh" not in ask([HOME, ("sec-fetch-site", "same-origin"), *FOLLOWED])[2]


def test_no_answer_can_be_framed(ask: Ask) -> None:
    for headers in ([HOME, COOKIE], [HOME], [("host", "evil.example")]):
        found = ask(headers)[1]
        assert (found["x-frame-options"], found["x-content-type-options"]) == ("DENY", "nosniff")
        assert found["content-security-policy"] == "frame-ancestors 'none'"
        assert found["cross-origin-opener-policy"] == "same-origin"


def test_start_and_end_of_the_server_pass(guard: ModuleType) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    guarded = guard.Guard(app, TOKEN, HOSTS, PORT)
    run(guarded({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]
