"""Downloads of prediction files, /files/RUN/SLIDE/NAME, and of reports, /report/RUN.

A request names a run and a slide by their keys in ``catalogue``, and one of a few file names.
"""

import functools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import approvals
import state
import streamlit as st
import tiles
import widgets
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from cytoseg.errors import CytosegError
from cytoseg.reporting.report import report_page
from cytoseg.reporting.slides_csv import slides_csv
from cytoseg.review.slide_approvals import Entry

PREFIX, REPORT = "/files", "/report"
FILES = {
    "class_map.ome.tif": ("Class map", "image/tiff"),
    "uncertainty.ome.tif": ("Uncertainty", "image/tiff"),
    "instances.ome.tif": ("Objects", "image/tiff"),
    "objects.geojson": ("GeoJSON", "application/geo+json"),
    "objects.geojson.zip": ("GeoJSON", "application/zip"),
    "cells.csv": ("CSV", "text/csv"),
    "cells.parquet": ("Parquet", "application/octet-stream"),
    "summary.json": ("Summary", "application/json"),
    "sign_off.json": ("Sign-off", "application/json"),
}
"""Downloadable files with titles and media types."""

_LOG = logging.getLogger(__name__)
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def file_url(run: Path, key: str, name: str) -> str:
    """Return the URL of a file of a slide's prediction."""
    return f"{PREFIX}/{quote(run.resolve().name, safe='')}/{quote(key, safe='')}/{name}"


def show_downloads(run: Path, key: str, prediction: Path) -> None:
    """Show download links for the files of a prediction."""
    for name, (title, _) in FILES.items():
        if os.path.isfile(prediction / name):
            st.link_button(title, file_url(run, key, name), icon=":material/download:", help=name)


def show_run_downloads(run: Path, predictions: Mapping[str, Path], said: Mapping[str, Entry]) -> None:
    """Offer all results of a run: its report, and a table of its predicted slides with their sign-offs.

    Args:
        run: The run folder.
        predictions: Folder of the results by slide key.
        said: The latest sign-off by slide key.
    """
    told = "Scores, images and sign-offs of the whole run on one page."
    st.link_button("Report", f"{REPORT}/{quote(run.resolve().name, safe='')}", icon=":material/description:", help=told)
    try:
        approvals.write_beside(predictions, said)  # also those from before the results held them
        table = slides_csv(list(predictions.values()))
    except CytosegError as error:
        st.warning(state.error_text(error), icon=":material/warning:")
        return
    widgets.offer_csv("Slides (CSV)", table, what="slides", about="Areas, objects and sign-off of each slide.")


async def report(request: Request) -> Response:
    """Respond with the report of a run, or one plain line."""
    name = request.path_params["run"]
    try:
        folder = tiles.run_named(name)
        page = await tiles.LANES.ask(("report", name), functools.partial(report_page, folder))
    except LookupError:
        return PlainTextResponse("There is no such run.", 404, _HEADERS)
    except (CytosegError, OSError) as error:
        return PlainTextResponse(f"The report cannot be created. {state.short(error)}", 409, _HEADERS)
    kept = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}-report.html"}
    return Response(page.encode(), media_type="text/html; charset=utf-8", headers=_HEADERS | kept)


async def file(request: Request) -> Response:
    """Respond with a file, or 404 and one plain line."""
    parts = request.path_params["rest"].split("/")
    try:
        if len(parts) != 3 or parts[2] not in FILES:
            raise LookupError
        path = await tiles.LANES.ask((parts[0], parts[1]), functools.partial(_path, *parts))
    except (LookupError, CytosegError, OSError) as error:
        _LOG.info("file refused: %s", error)
        return PlainTextResponse("There is no such file.", 404, _HEADERS)
    kept = f"{parts[1]}_{parts[2]}"
    return FileResponse(path, media_type=FILES[parts[2]][1], headers=_HEADERS, filename=kept)


def _path(run: str, key: str, name: str) -> Path:
    """Resolve a request to a file.

    Raises:
        LookupError: If there is no such downloadable file.
        CytosegError: If the slides of the run cannot be listed.
    """
    folder = tiles.run_named(run)
    found = tiles.listed(folder).slides.get(key)
    if found is None or found.prediction is None:
        raise LookupError(key)
    path = found.prediction / name
    # A symlink in a foreign run could point to any file of this machine.
    if not os.path.isfile(path) or not path.resolve().is_relative_to(folder.resolve()):
        raise LookupError(name)
    return path


ROUTES = [
    Route(f"{REPORT}/{{run}}", report, methods=["GET"]),
    Route(f"{PREFIX}/{{rest:path}}", file, methods=["GET"]),
]
