"""By which names browsers may ask for the review app, and the links that open it."""

import ipaddress
import socket

from cytoseg.review.settings import ReviewSection

TOKEN, HOSTS = "CYTOSEG_REVIEW_TOKEN", "CYTOSEG_REVIEW_HOSTS"
"""Variables that tell the app: unlike a command line, other accounts of the machine cannot read them."""
_LOCAL = ("127.0.0.1", "localhost", "[::1]")
"""This machine, as browsers name it."""


def opening_lines(review: ReviewSection, token: str) -> list[str]:
    """Say how the app is opened, and who else may reach it.

    Args:
        review: Of the recipe.
        token: That the link hands over.
    """
    links = [f"http://{host}/?token={token}" for host in _linked(review)]
    lines = [f"Review: {links[0]}  (Ctrl-C ends it)", *(f"From other machines: {link}" for link in links[1:])]
    if not _is_local(review.host):
        lines.append(
            f"review.host={review.host}: every machine that reaches this one can ask for the app, but only who has the "
            f"link is let in, by one of these names: {', '.join(host_names(review))}, or its bare address. Others are "
            "added with review.names. The link and all that is shown pass over the network unencrypted."
        )
    return lines


def surroundings(review: ReviewSection, token: str) -> dict[str, str]:
    """Return the variables that tell the app whom to let in."""
    return {TOKEN: token, HOSTS: ",".join(host_names(review))}


def host_names(review: ReviewSection) -> tuple[str, ...]:
    """List the names, with ports, by which browsers may ask for the app.

    Those of this machine and the address it listens on; at another address than this machine's own also what the
    machine is called; and those of the recipe, at the usual ports too, for a proxy may stand there.
    """
    own = [_bracketed(review.host)] if not _is_every(review.host) else []
    called = [] if _is_local(review.host) else [socket.gethostname()]
    names = [f"{name}:{review.port}" for name in (*_LOCAL, *own, *called, *(n for n in review.names if not _port(n)))]
    return tuple(dict.fromkeys((*names, *review.names)))


def _linked(review: ReviewSection) -> list[str]:
    """Return the names that stand in the links: the one for this machine, then those for others."""
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
