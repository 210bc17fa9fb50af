"""Slide tiles over HTTP: /tiles/RUN/LAYER/SLIDE/STEP/X_Y.EXT.

A request names a run and a slide by their keys in ``catalogue``, never by a path. A response is an image or one plain
line.
"""

import logging
import re
import socket
import threading
import time
from functools import lru_cache, partial
from pathlib import Path
from urllib.parse import quote

import state
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from cytoseg.errors import CytosegError
from cytoseg.predict.kept_versions import FOLDER
from cytoseg.recipe import Recipe, labels_of_run, recipe_of_run
from cytoseg.viewer.reading_threads import Lanes
from cytoseg.viewer.slide_catalogue import Catalogue, list_slides
from cytoseg.viewer.tile_service import CLASSES, DISAGREEMENT, SLIDE, TRUTH, SlideView, Subject, TileService

PREFIX = "/tiles"
LIBRARY = "/vendor/openseadragon.min.js"
SUFFIXES = {SLIDE: "jpg", CLASSES: "png", DISAGREEMENT: "png", TRUTH: "png"}
LISTED_S = 30.0
"""Seconds for which a list of slides is cached."""

_LOG = logging.getLogger(__name__)
_PLACE = re.compile(r"([0-9]{1,6})_([0-9]{1,6})\.(jpg|png)")
_SERVICE = TileService()
LANES = Lanes()
"""Unresponsive slides time out, and do not block other slides."""

_LISTING: dict[Path, threading.Lock] = {}
_COMMON = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
# URLs change with the files (v=...), so browsers may cache tiles; proxies may not, because of patient data.
_KEEP = _COMMON | {"Cache-Control": "private, max-age=3600"}
_FORGET = _COMMON | {"Cache-Control": "no-store"}


def catalogue(run: Path) -> Catalogue:
    """List the slides of a run that may be shown.

    Raises:
        CytosegError: If the run's recipe is missing or cannot be read, or a disk does not answer.
    """
    return LANES.wait(("run", run), partial(listed, run))


def subject(run: Path, key: str) -> Subject:
    """Find a slide of a run by its key.

    Raises:
        CytosegError: If there is none, the run's recipe cannot be read, or a disk does not answer.
    """
    return LANES.wait(("run", run), partial(_subject, run, key))


def listed(run: Path) -> Catalogue:
    """List the slides of a run in this thread; see ``catalogue``."""
    # Tiles are requested by the dozen: one request lists the slides, the others wait.
    with _LISTING.setdefault(run, threading.Lock()):
        written = _written_ns(run / "predictions"), _written_ns(run / FOLDER)
        return _catalogue(run, written, round(time.monotonic() / LISTED_S))


def _subject(run: Path, key: str) -> Subject:
    found = listed(run).named(key)
    if found is None:
        raise CytosegError("There is no such slide in this run.")
    recipe = _recipe_of(run)
    labels = labels_of_run(run, state.base_folder())
    return Subject(found, recipe.class_list(), labels, recipe.slides.assumed_mpp(found.path))


def describe(seen: Subject) -> SlideView:
    """Describe a slide and its layers; see ``TileService.describe``.

    Raises:
        CytosegError: If it cannot be read, or its disk does not answer.
    """
    return LANES.wait(seen.found.path, partial(_SERVICE.describe, seen))


def layer_url(run: Path, key: str, layer: str) -> str:
    """Return the base URL of a layer's tiles, to be followed by ``/STEP/X_Y.EXT``."""
    return f"{PREFIX}/{quote(run.resolve().name, safe='')}/{layer}/{quote(key, safe='')}"


async def tile(request: Request) -> Response:
    """Respond with a tile, or 404 and one plain line."""
    _send_at_once(request)
    try:
        body, kind = await _tile(request.path_params["rest"], request.query_params.get("classes", ""))
    except LookupError:
        return PlainTextResponse("There is no such tile.", 404, _FORGET)
    except (CytosegError, OSError) as error:
        # The error may contain a path, so it is only logged.
        _LOG.warning("tile refused: %s", error)
        return PlainTextResponse("This tile cannot be shown.", 404, _FORGET)
    return Response(body, media_type=kind, headers=_KEEP)


def _send_at_once(request: Request) -> None:
    """Disable Nagle's algorithm on the connection.

    uvicorn sends header and body separately, and asyncio leaves the algorithm on for the socket that Streamlit opens:
    the body would wait 40 ms for the browser to acknowledge the header.
    """
    transport = getattr(getattr(request.receive, "__self__", None), "transport", None)
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def library(_request: Request) -> Response:
    """Respond with OpenSeadragon."""
    return FileResponse(Path(__file__).parent / LIBRARY[1:], media_type="text/javascript", headers=_KEEP)


ROUTES = [Route(f"{PREFIX}/{{rest:path}}", tile, methods=["GET"]), Route(LIBRARY, library, methods=["GET"])]


async def _tile(rest: str, shown: str) -> tuple[bytes, str]:
    """Make the tile for a URL.

    Raises:
        LookupError: If the URL is not a tile URL.
        CytosegError: If there is no such tile, it cannot be made, or its disk does not answer.
    """
    parts = rest.split("/")
    if len(parts) != 5:
        raise LookupError
    name, layer, key, step, last = parts
    place = _PLACE.fullmatch(last)
    if not place or place[3] != SUFFIXES.get(layer) or not re.fullmatch(r"[0-9]{1,2}", step):
        raise LookupError
    ids = {int(text) for text in shown.split(",") if re.fullmatch(r"[0-9]{1,3}", text)}
    where = int(step), int(place[1]), int(place[2])

    def made() -> bytes:
        return _SERVICE.tile(_subject(run_named(name), key), layer, where, shown=ids)

    return await LANES.ask((name, key), made), "image/jpeg" if layer == SLIDE else "image/png"


def run_named(name: str) -> Path:
    """Find a run by its name.

    Raises:
        LookupError: If there is none.
    """
    moment = round(time.monotonic() / LISTED_S)
    if name not in _runs(moment):
        _runs.cache_clear()  # it may be new
    return _runs(moment)[name]


@lru_cache(maxsize=1)
def _runs(moment: int) -> dict[str, Path]:
    # Of two runs with the same name the pages show the first.
    return {run.resolve().name: run for run in reversed(state.known_runs())}


def _recipe_of(run: Path) -> Recipe:
    path = run / "recipe.yaml"
    if not path.is_file():
        raise CytosegError("recipe.yaml: the run contains no recipe, so its slides are unknown. Run a command again.")
    return recipe_of_run(run)


@lru_cache(maxsize=16)
def _catalogue(run: Path, written_ns: tuple[int, int], moment: int) -> Catalogue:
    slides = _recipe_of(run).slides
    folders = [state.base_folder() / folder for folder in slides.folders]
    return list_slides(run, folders=folders, include=slides.include, exclude=slides.exclude)


def _written_ns(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
