"""Recipe section review."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from annotated_types import Ge, Le

from cytoseg.settings import RULES, checked_by, matching


def _address_without_a_password(log: str) -> str:
    """Refuse an invalid URL, and a password, because the recipe is copied into the run folder and shown."""
    parts = urlsplit(log)
    if not parts.scheme or "://" not in log:
        raise ValueError("write it as dialect+driver://user@host/database")
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise ValueError("omit the password and put it in ~/.pgpass or PGPASSWORD")
    return log


@dataclass(frozen=True)
class ReviewSection:
    """The review app."""

    __pydantic_config__ = RULES

    host: Annotated[str, matching(r"^[A-Za-z0-9._:-]+$")] = "127.0.0.1"
    """Address it listens on; the default is reachable from this machine only. Access needs the link
    printed at startup, at any address."""
    names: tuple[Annotated[str, matching(r"^([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$")], ...] = ()
    """Other host names of the app, such as that of a proxy, with the port unless it is the app's or the default:
    lab.example.org, lab.example.org:8443. Its own address and the machine's name need not be listed."""
    port: Annotated[int, Ge(1024), Le(65_535)] = 8501
    """Port it listens on."""
    log: Annotated[str, checked_by(_address_without_a_password)] | None = None
    """SQLAlchemy URL of a shared database for the reviewers' log and, on a server, the jobs:
    postgresql+psycopg://user@host/name. null keeps both in each run folder. The password belongs in ~/.pgpass or
    PGPASSWORD."""
