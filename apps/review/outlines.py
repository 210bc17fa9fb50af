"""Outlines of objects over HTTP: /outlines/RUN/SLIDE?x=&y=&width=&height=&pixel=.

A request names a run and a slide by their keys in ``catalogue``, never by a path.
"""

import json
import logging
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cells
import numpy as np
import pandas as pd
import tiles
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from cytoseg.classes import ClassList
from cytoseg.errors import CytosegError, SlideError
from cytoseg.geometry import Region
from cytoseg.objects.object_writer import CELLS, OUTLINES, ZIPPED_OUTLINES
from cytoseg.viewer.object_outlines import ObjectPlaces, outlines_in
from cytoseg.viewer.tile_service import CLASSES, map_file

PREFIX = "/outlines"
_LOG = logging.getLogger(__name__)
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_WHOLE = re.compile(r"-?[0-9]{1,8}")
_PIXEL = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


def viewer_options(
    run: Path, key: str, prediction: Path, classes: ClassList, shown: Collection[int]
) -> dict[str, Any] | None:
    """Describe the outlines of a predicted slide for the viewer; None if it has none.

    Args:
        run: The run folder.
        key: Key of the slide.
        prediction: Folder of its prediction.
        classes: Names and colours.
        shown: Ids of the classes to draw.
    """
    try:
        path = _file_of(prediction)
        map_file(prediction, CELLS)
    except SlideError:
        return None
    pairs = zip(classes.names, classes.colours, strict=True)
    return {
        "address": f"{PREFIX}/{quote(run.resolve().name, safe='')}/{quote(key, safe='')}",
        "version": str(path.stat().st_mtime_ns),
        "colours": {name: f"rgb({red},{green},{blue})" for name, (red, green, blue) in pairs},
        "shown": [classes.names[class_id] for class_id in sorted(shown)],
    }


async def outlines(request: Request) -> Response:
    """Respond with the objects in a region as JSON, or 404 and one plain line."""
    parts = request.path_params["rest"].split("/")
    try:
        if len(parts) != 2:
            raise LookupError
        region, pixel = _view(request.query_params)
        body = await tiles.LANES.ask(("outlines", *parts), lambda: _made(parts[0], parts[1], region, pixel))
    except LookupError:
        return PlainTextResponse("There are no such outlines.", 404, _HEADERS)
    except (CytosegError, OSError) as error:
        # The error may contain a path, so it is only logged.
        _LOG.warning("outlines refused: %s", error)
        return PlainTextResponse("The outlines cannot be shown.", 404, _HEADERS)
    return Response(body, media_type="application/json", headers=_HEADERS)


def _view(query: Mapping[str, str]) -> tuple[Region, float]:
    """Read a region in level-0 pixels, and the level-0 pixels per screen pixel.

    Raises:
        LookupError: If they are not numbers, or not positive.
    """
    given = [query.get(name, "") for name in ("x", "y", "width", "height")]
    if not all(_WHOLE.fullmatch(text) for text in given) or not _PIXEL.fullmatch(query.get("pixel", "")):
        raise LookupError
    x, y, width, height = map(int, given)
    if width < 1 or height < 1:
        raise LookupError
    return Region(x, y, width, height), float(query["pixel"])


def _made(run: str, key: str, region: Region, pixel: float) -> bytes:
    folder = tiles.run_named(run)
    found = tiles.listed(folder).slides.get(key)
    if found is None or found.prediction is None:
        raise LookupError(key)
    if CLASSES not in tiles.describe(tiles.subject(folder, key)).layers:
        raise SlideError(f"{key}: the prediction is not of this slide, or is damaged.")
    path, table = _file_of(found.prediction), map_file(found.prediction, CELLS)
    said = outlines_in(path, _places(table, table.stat().st_mtime_ns), region, pixel=pixel)
    return json.dumps(said, separators=(",", ":"), allow_nan=False).encode()


def _file_of(prediction: Path) -> Path:
    """Return the file of outlines, zipped or not.

    Raises:
        SlideError: If there is none.
    """
    zipped = (prediction / ZIPPED_OUTLINES).is_file()
    return map_file(prediction, ZIPPED_OUTLINES if zipped else OUTLINES)


@lru_cache(maxsize=2)
def _places(table: Path, written_ns: int) -> ObjectPlaces:
    """Read where the objects are.

    Raises:
        CytosegError: If the table is damaged.
    """
    found = cells.table_of(table.parent)
    assert found is not None
    try:
        reach = _perimeter(found) / 2  # half a ring's length: no point of it is further away
        return ObjectPlaces(
            found["id"].to_numpy(np.int64),
            found["class"].astype(str).tolist(),
            found[cells.X].to_numpy(np.float64),
            found[cells.Y].to_numpy(np.float64),
            reach.to_numpy(np.float64),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise CytosegError(f"{CELLS}: is damaged ({type(error).__name__}). Predict the slide again.") from error


def _perimeter(table: pd.DataFrame) -> "pd.Series[float]":
    """Return the perimeters in level-0 pixels; their size follows from the centroids, which are in both units."""
    if table.empty:
        return pd.Series(dtype=float)
    if "perimeter_um" not in table.columns:
        return pd.to_numeric(table["perimeter_px"])
    mpp = pd.to_numeric(table["centroid_x_um"]).sum() / table[cells.X].sum()
    return pd.to_numeric(table["perimeter_um"]) / mpp


ROUTES = [Route(f"{PREFIX}/{{rest:path}}", outlines, methods=["GET"])]
