"""The review's link in a real browser, and attacks from a page on another port."""

import http.server
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import DRAWN_MS, SECRET, open_page

pytestmark = pytest.mark.browser

TRIES = """async (address) => {
  const kinds = {
    websocket: (done) => {
      const socket = new WebSocket(address.replace("http", "ws") + "/_stcore/stream", ["streamlit"]);
      socket.onopen = () => done(true);
      socket.onerror = () => done(false);
    },
    picture: (done) => {
      const picture = new Image();
      picture.onload = () => done(true);
      picture.onerror = () => done(false);
      picture.src = address + "/tiles/sighted/slide/board/0/0_0.jpg";
    },
    answer: (done) =>
      fetch(address + "/_stcore/host-config", { credentials: "include" }).then(
        () => done(true),
        () => done(false),
      ),
  };
  const found = {};
  for (const [kind, attempt] of Object.entries(kinds)) found[kind] = await new Promise(attempt);
  return found;
}"""


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    opened = chromium.new_context()
    yield opened
    opened.close()


@pytest.fixture
def neighbour(address: str) -> Iterator[str]:
    """Serve a page at another port of this machine, with a link to the review and the review in a frame."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f'<a href="{address}/iou">look</a><iframe src="{address}/"></iframe>'.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _shows(page: Page, title: str) -> None:
    expect(page.locator("h1").first).to_contain_text(title, timeout=DRAWN_MS)


def test_the_link_opens_the_review_and_leaves_no_token_in_the_address(context: BrowserContext, address: str) -> None:
    page = context.new_page()
    page.goto(f"{address}/iou?token={SECRET}")
    _shows(page, "Per-class IoU")
    assert page.url == f"{address}/iou"
    assert page.evaluate("document.cookie").find(SECRET) == -1
    page.goto(address)
    _shows(page, "Runs")


def test_without_the_link_a_page_says_what_to_do(context: BrowserContext, address: str) -> None:
    page = context.new_page()
    answer = page.goto(address)
    assert answer is not None
    assert answer.status == 403
    expect(page.get_by_text("Open the link that `cytoseg review` has printed")).to_be_visible()


def test_a_page_at_another_port_can_link_but_neither_read_nor_write(
    chromium: Browser, address: str, neighbour: str
) -> None:
    """Browsers share cookies among ports, so that its requests bring the token along."""
    page = open_page(chromium, address)
    page.goto(neighbour)
    assert page.evaluate(TRIES, address) == {"websocket": False, "picture": False, "answer": False}
    assert page.frames[1].url == "chrome-error://chromewebdata/"  # the browser shows no review in a frame
    page.get_by_text("look").click()
    _shows(page, "Per-class IoU")
    assert page.evaluate(TRIES, address) == {"websocket": True, "picture": True, "answer": True}
    page.context.close()


def test_the_link_works_from_a_page_of_another_site(context: BrowserContext, address: str, neighbour: str) -> None:
    """A chat or a wiki: the browser keeps the new cookie back until a page of the review itself asks."""
    page = context.new_page()
    page.goto(neighbour.replace("127.0.0.1", "localhost"))
    page.evaluate(f"document.querySelector('a').href = '{address}/iou?token={SECRET}'")
    page.get_by_text("look").click()
    _shows(page, "Per-class IoU")
    assert SECRET not in page.url
