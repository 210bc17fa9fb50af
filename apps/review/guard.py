"""The layer before Streamlit: by which name the app is asked, from which page, and with which token.

Any page in a browser, and any account of this machine, can send requests to a port of it. Only whoever was given the
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
HEALTH = "/_stcore/health"
"""Says "ok", and nothing else, to whoever watches over the server; open to those without a token."""

NO_TOKEN = "Open the link that `cytoseg review` has printed in its terminal; each start makes a new one."
OTHER_NAME = (
    "The app does not answer to this name. Open the link that `cytoseg review` has printed, or add the name to "
    "review.names of the recipe."
)
OTHER_PAGE = "The app answers to its own pages only."
_ALWAYS = {
    # Nobody lays these pages under others' buttons, holds their window, or learns their addresses.
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_CLOSE_POLICY = 1008


def cookie_name(port: int) -> str:
    """Name the cookie that holds the token: browsers share cookies among the ports of a machine."""
    return f"cytoseg_review_{port}"


class Guard:
    """Lets through what comes with the token, by a known name, and from no page but the app's own.

    Args:
        app: What it stands before.
        token: As it stands in the link.
        hosts: What browsers may ask for, as they write it: ``localhost:8501``. An address at which a request has
            arrived is always one of them.
        port: On which the app listens.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str], port: int) -> None:
        self._app, self._token, self._cookie = app, token.encode(), cookie_name(port)
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that is refused, and hand on any other."""
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
        """Return the answer to a request that goes no further; None for one that may."""
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
        """Lead to the same page without the token in its address, where others would see it and histories keep it."""
        query = urlencode([(name, value) for name, value in fields if name != QUERY])
        # One slash: what begins with two is the address of another server.
        place = "/" + quote(scope["path"].lstrip("/"))
        answer = RedirectResponse(f"{place}?{query}" if query else place, 303, {"Cache-Control": "no-store"})
        answer.set_cookie(self._cookie, self._token.decode(), httponly=True, samesite="strict")
        return answer


def _arrived_at(scope: Scope) -> str | None:
    """Write the address of this machine at which a request has arrived, as a browser asks for it.

    A page that was led here by a changed name (DNS rebinding) asks by that name, never by the bare address.
    """
    address, port = scope.get("server") or (None, None)
    if address is None or port is None:
        return None
    address = address.removeprefix("::ffff:")  # a socket for both kinds of addresses writes those of IPv4 so
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _is_own_page(headers: Headers) -> bool:
    """Return whether the page that asks, where a browser names it, is one of the app's: same name and same port."""
    origins, host = headers.getlist("origin"), headers["host"]
    return not origins or origins in ([f"http://{host}"], [f"https://{host}"])


def _is_own_request(headers: Headers, scope: Scope) -> bool:
    """Return whether a browser says that another page asks, be it for a picture; links that are followed are no harm.

    To a browser other ports of this machine are the same site, so that their pages' requests bring the cookie along.
    """
    return headers.get("sec-fetch-site", "none") in ("same-origin", "none") or _came_from_elsewhere(headers, scope)


def _came_from_elsewhere(headers: Headers, scope: Scope) -> bool:
    """Return whether somebody follows a link on another page: the browser keeps back the cookie then."""
    asked = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"), scope.get("method"))
    return headers.get("sec-fetch-site") in ("same-site", "cross-site") and asked == ("navigate", "document", "GET")


def _refusal(headers: Headers, status: int, line: str, told: str, *, again: bool = False) -> Response:
    """Refuse a request: a page for people, one plain line for programs.

    Args:
        headers: Of the request.
        status: Of the answer.
        line: For programs.
        told: For people.
        again: Let the page ask for itself once more, as a page of this app, with which the browser sends the cookie.
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
    """Add to each answer what keeps other pages away from it."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_ALWAYS)
        await send(message)

    return sending
