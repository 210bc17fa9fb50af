"""Access control of the app: host names, origins and the token.

Any page in a browser, and any user of this machine, can send requests to its ports. Only those who were given the
link that ``cytoseg review`` prints holds the token; the link hands it to the browser, which keeps it as a cookie.
"""

import hmac
from collections.abc import Collection
from html import escape
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

QUERY = "token"
UPLOADS = "/_stcore/upload_file"
"""Where Streamlit keeps uploaded files in memory, from any page and without asking the app."""
HEALTH = "/_stcore/health"
"""Health check that returns only "ok", open without a token."""

NO_TOKEN = "Open the link that `cytoseg review` has printed in its terminal; each start makes a new one."
OTHER_NAME = (
    "The app does not answer to this name. Open the link that `cytoseg review` has printed, or add the name to "
    "review.names of the recipe."
)
OTHER_PAGE = "The app answers to its own pages only."
NO_UPLOADS = "The app accepts no uploads: slides are read from the folders it was started with."
_ALWAYS = {
    # Headers against framing, window references and referrer leaks.
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_CLOSE_POLICY = 1008


def cookie_name(port: int) -> str:
    """Return the cookie name of the token, with the port because browsers share cookies between ports."""
    return f"cytoseg_review_{port}"


class Guard:
    """Admits requests with the token, under a known host name, and from the app's own pages.

    Args:
        app: The protected app.
        token: Token in the link.
        hosts: Allowed host names, such as ``localhost:8501``. The address at which a request arrived is always allowed.
        port: Port of the app.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str], port: int) -> None:
        self._app, self._token, self._cookie = app, token.encode(), cookie_name(port)
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to refused requests, and forward all others."""
        if scope["type"] not in ("http", "websocket"):  # start and end of the server
            await self._app(scope, receive, send)
            return
        answer = self._answer(scope)
        if answer is None:
            await self._app(scope, receive, _marked(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _CLOSE_POLICY})
        else:
            await answer(scope, receive, _marked(send))

    def _answer(self, scope: Scope) -> Response | None:
        """Return the response to a refused request; None for an admitted one."""
        headers = Headers(scope=scope)
        if not self._is_named(headers, scope):
            return _refusal(headers, 400, "Invalid host header", OTHER_NAME)
        if not _is_own_page(headers) or not _is_own_request(headers, scope):
            return _refusal(headers, 403, OTHER_PAGE, OTHER_PAGE)
        if scope["type"] == "http" and scope["path"] == HEALTH and scope["method"] in ("GET", "HEAD"):
            return None
        fields = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        linked = any(name == QUERY and self._is_token(value) for name, value in fields)
        if not linked and not self._has_cookie(headers):
            return _refusal(headers, 403, NO_TOKEN, NO_TOKEN, again=_came_from_elsewhere(headers, scope))
        if scope["path"].startswith(UPLOADS):
            return _refusal(headers, 403, NO_UPLOADS, NO_UPLOADS)
        if scope["type"] == "http" and any(name == QUERY for name, _ in fields):
            return self._without_token(scope, fields)
        return None

    def _is_named(self, headers: Headers, scope: Scope) -> bool:
        named = headers.getlist("host")
        return len(named) == 1 and (named[0].lower() in self._hosts or named[0] == _arrived_at(scope))

    def _has_cookie(self, headers: Headers) -> bool:
        parts = (part.strip().partition("=") for line in headers.getlist("cookie") for part in line.split(";"))
        return any(name == self._cookie and self._is_token(value) for name, _, value in parts)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "surrogatepass"), self._token)

    def _without_token(self, scope: Scope, fields: list[tuple[str, str]]) -> Response:
        """Redirect to the same page without the token in the URL, where others and histories would see it."""
        query = urlencode([(name, value) for name, value in fields if name != QUERY])
        # One slash: a URL starting with two names another server.
        place = "/" + quote(scope["path"].lstrip("/"))
        answer = RedirectResponse(f"{place}?{query}" if query else place, 303, {"Cache-Control": "no-store"})
        answer.set_cookie(self._cookie, self._token.decode(), httponly=True, samesite="strict")
        return answer


def _arrived_at(scope: Scope) -> str | None:
    """Return the local address at which a request arrived, in the form of a Host header.

    After DNS rebinding a page uses its own name, never the bare address.
    """
    address, port = scope.get("server") or (None, None)
    if address is None or port is None:
        return None
    address = address.removeprefix("::ffff:")  # IPv4 address on a dual-stack socket
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _is_own_page(headers: Headers) -> bool:
    """Return whether the Origin of a request, if any, is the app's own: same host and port."""
    origins, host = headers.getlist("origin"), headers["host"]
    return not origins or origins in ([f"http://{host}"], [f"https://{host}"])


def _is_own_request(headers: Headers, scope: Scope) -> bool:
    """Return whether Fetch Metadata marks a request as the app's own; followed links are harmless.

    Other ports of this machine are the same site for a browser, so their pages' requests include the cookie.
    """
    return headers.get("sec-fetch-site", "none") in ("same-origin", "none") or _came_from_elsewhere(headers, scope)


def _came_from_elsewhere(headers: Headers, scope: Scope) -> bool:
    """Return whether a link on another page was followed, for which the browser withholds the cookie."""
    asked = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"), scope.get("method"))
    return headers.get("sec-fetch-site") in ("same-site", "cross-site") and asked == ("navigate", "document", "GET")


def _refusal(headers: Headers, status: int, line: str, told: str, *, again: bool = False) -> Response:
    """Refuse a request: a page for people, one plain line for programs.

    Args:
        headers: Request headers.
        status: Response status.
        line: Message for programs.
        told: Message for people.
        again: Reload the page once, as a page of this app, for which the browser sends the cookie.
    """
    kept = {"Cache-Control": "no-store"}
    if "text/html" not in headers.get("accept", ""):
        return PlainTextResponse(line, status, kept)
    reload = '<meta http-equiv="refresh" content="0">' if again else ""
    body = (
        f'<!doctype html><html lang="en"><meta charset="utf-8">{reload}<title>cytoseg review</title>'
        '<body style="font:1.1rem/1.5 sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem;color:#1c2430">'
        f"<h1>cytoseg review</h1><p>{escape(told)}</p></body></html>"
    )
    return HTMLResponse(body, status, kept)


def _marked(send: Send) -> Send:
    """Add the protective headers to each response."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_ALWAYS)
        await send(message)

    return sending
