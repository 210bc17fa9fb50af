"""Host names and links of the review app."""

import ipaddress
import socket

from cytoseg.review.settings import ReviewSection

TOKEN, HOSTS = "CYTOSEG_REVIEW_TOKEN", "CYTOSEG_REVIEW_HOSTS"
"""Environment variables for the app: unlike a command line, other users cannot read them."""
_LOCAL = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine in a browser."""


def opening_lines(review: ReviewSection, token: str) -> list[str]:
    """Return the lines on how to open the app and who can reach it.

    Args:
        review: The recipe's section.
        token: Access token in the link.
    """
    links = [f"http://{host}/?token={token}" for host in _linked(review)]
    lines = [f"Review: {links[0]}  (Ctrl-C ends it)", *(f"From other machines: {link}" for link in links[1:])]
    if not _is_local(review.host):
        lines.append(
            f"review.host={review.host}: any machine that can reach this one can request the app, but only those with "
            f"the link get in, under one of these names: {', '.join(host_names(review))}, or its bare address. Add "
            "others with review.names. The link and all content pass over the network unencrypted."
        )
    return lines


def surroundings(review: ReviewSection, token: str) -> dict[str, str]:
    """Return the environment variables with the app's access rules."""
    return {TOKEN: token, HOSTS: ",".join(host_names(review))}


def host_names(review: ReviewSection) -> tuple[str, ...]:
    """List the host names, with ports, under which browsers may request the app.

    This machine's names and its listening address; the machine's host name if it listens on another address; and
    those of the recipe, also at the default ports for a proxy.
    """
    own = [_bracketed(review.host)] if not _is_every(review.host) else []
    called = [] if _is_local(review.host) else [socket.gethostname()]
    names = [f"{name}:{review.port}" for name in (*_LOCAL, *own, *called, *(n for n in review.names if not _port(n)))]
    return tuple(dict.fromkeys((*names, *review.names)))


def _linked(review: ReviewSection) -> list[str]:
    """Return the host names in the links: first for this machine, then for others."""
    if not _is_every(review.host):
        return [f"{_bracketed(review.host)}:{review.port}"]
    called = review.names or (socket.gethostname(),)
    return [f"{_LOCAL[0]}:{review.port}", *(n if _port(n) else f"{n}:{review.port}" for n in called)]


def _port(name: str) -> str:
    return name.rpartition("]")[2].partition(":")[2]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_local(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _is_every(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_unspecified


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
