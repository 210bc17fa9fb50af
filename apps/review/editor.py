"""The label map editor (editor.js): arguments and validated answers."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image
from scripts import joined, text_of

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import CytosegError
from cytoseg.labels.superpixels import superpixels

_DRAWING = "drawing"
"""Streamlit key of the browser's answers."""
_ANNOTATE_KEYS = (("N, Shift+N", "next, previous crop"),)
_CORRECT_KEYS = (
    ("0", "do not score"),
    ("Left, Right", "previous, next crop, while the keyboard is not on the crop"),
    ("A", "accept"),
    ("Ctrl+S", "save"),
)
"""Keyboard shortcuts of the pages, for the list of keys."""


MODULES = ("pixels", "pointers", "runs", "regions", "proposal", "view", "settings", "tools", "keys")
"""Modules of the editor (editor_NAME.js), each after those that it imports."""


def script() -> str:
    """Return the editor's JavaScript."""
    return joined("editor", MODULES)


_PARTS = {"html": text_of("editor.html"), "css": text_of("editor.css"), "js": script()}
_canvas = st.components.v2.component("label_map_editor", **_PARTS)


@dataclass(frozen=True)
class Layer:
    """An overlay: its name in the browser, its title, and (H, W, 4) uint8 RGBA pixels."""

    name: str
    title: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Strokes:
    """The drawing so far: (H, W) uint8 ids, 255 where unmarked; and the number of the stroke."""

    ids: NDArray[np.uint8]
    stroke: int


def edit(
    picture: NDArray[np.uint8],
    ids: NDArray[np.uint8],
    classes: ClassList,
    *,
    token: str,
    saved: str = "",
    may_save: bool = True,
) -> NDArray[np.uint8] | None:
    """Show the editor for painting a label map.

    Args:
        picture: (H, W, 3) uint8 RGB.
        ids: (H, W) uint8, initial ids; 255 for ignore.
        classes: Names and colours; unmarked pixels are the fill class and show the image.
        token: Identifies the work. A new token restarts the editor; unsaved painting is restored when its token
            returns.
        saved: Token of the work that was just saved, which the browser then drops.
        may_save: Whether the button saves; if not, it asks for a name.

    Returns:
        (H, W) uint8 ids in the page run in which Save was pressed; otherwise None.

    Raises:
        CytosegError: If the browser sends an invalid label map.
    """
    height, width = ids.shape
    result = _canvas(
        key="editor",
        data={
            "token": token,
            "saved": saved,
            "may_save": may_save,
            "picture": data_uri(picture),
            "superpixels": _superpixels(picture.tobytes(), *picture.shape[:2]),
            "width": width,
            "height": height,
            "ids": packed(ids),
            "keys": _CORRECT_KEYS,
            "fill": classes.fill_id,
            "classes": _buttons(classes),
            # Acknowledge every answer, even one without changes.
            "answers": st.session_state.get("answers", 0),
        },
        on_saved_change=_count_answer,
    )
    answer = result.saved
    # After Save and an immediate page change the ids belong to another crop; the browser keeps them.
    if not isinstance(answer, dict) or answer.get("token") != token:
        return None
    return unpacked(answer.get("ids"), height, width)


def draw(
    picture: NDArray[np.uint8],
    ids: NDArray[np.uint8],
    classes: ClassList,
    *,
    token: str,
    draft: str,
    may_save: bool,
    saved_stroke: int,
    layers: Sequence[Layer] = (),
    proposed: NDArray[np.uint8] | None = None,
) -> None:
    """Show the editor for marking an image; each stroke is sent immediately, see ``strokes_of``.

    Args:
        picture: (H, W, 3) uint8 RGB.
        ids: (H, W) uint8, initial ids; 255 where unmarked, which shows the image.
        classes: Names and colours; the fill class is marked like any other.
        token: Identifies the work, see ``edit``.
        draft: Name under which the browser keeps the drawing; the same after a restart of the server.
        may_save: Whether strokes are sent; if not, they stay in the browser and a name is requested.
        saved_stroke: Number of the last stroke that was saved.
        layers: Overlays; the first one is shown.
        proposed: (H, W) uint8 ids to accept by clicking; 255 where nothing is proposed.
    """
    height, width = ids.shape
    _canvas(
        key=_DRAWING,
        data={
            "token": token,
            "draft": draft,
            "autosave": True,
            "may_save": may_save,
            "saved_stroke": saved_stroke,
            "picture": data_uri(picture),
            "superpixels": _superpixels(picture.tobytes(), *picture.shape[:2]),
            "width": width,
            "height": height,
            "ids": packed(ids),
            "keys": _ANNOTATE_KEYS,
            "fill": IGNORE,
            "classes": _buttons(classes)[:-1],
            "layers": [{"name": one.name, "title": one.title, "uri": data_uri(one.pixels)} for one in layers],
            "proposal": None if proposed is None else packed(proposed),
        },
        on_drawn_change=lambda: None,
        on_saved_change=lambda: None,
    )


def strokes_of(token: str, shape: tuple[int, ...]) -> Strokes | None:
    """Return the strokes sent by the browser for a work, before the page draws the editor.

    Args:
        token: Token of the work.
        shape: (H, W) of the image.

    Returns:
        The latest drawing; None if there is none for this token.

    Raises:
        CytosegError: If it is not a valid label map of this image.
    """
    found = st.session_state.get(_DRAWING)
    answer = found.get("drawn") if isinstance(found, Mapping) else None
    if not isinstance(answer, Mapping) or answer.get("token") != token or type(answer.get("stroke")) is not int:
        return None
    return Strokes(unpacked(answer.get("ids"), *shape), answer["stroke"])


def packed(ids: NDArray[np.uint8]) -> list[int]:
    """Run-length encode ids row by row: id, count, id, count, ..."""
    flat = ids.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    lengths = np.diff(starts, append=flat.size)
    return [int(number) for pair in zip(flat[starts], lengths, strict=True) for number in pair]


def unpacked(runs: object, height: int, width: int) -> NDArray[np.uint8]:
    """Decode the result of `packed`.

    Raises:
        CytosegError: If it is not a list of runs that fills the map.
    """
    numbers = runs if isinstance(runs, list) and all(type(number) is int for number in runs) else []
    ids, lengths = numbers[::2], numbers[1::2]
    if len(ids) != len(lengths) or sum(lengths) != height * width or min(lengths, default=0) < 1:
        raise CytosegError("The browser has sent no label map of this crop. Load the page again.")
    if not all(0 <= number <= 255 for number in ids):
        raise CytosegError("The browser has sent a class that does not exist. Load the page again.")
    return np.repeat(np.array(ids, np.uint8), lengths).reshape(height, width)


# Both are read and shown again after each stroke.
@lru_cache(maxsize=16)
def _superpixels(pixels: bytes, height: int, width: int) -> dict[str, object]:
    """Return the superpixels of an RGB image for smart select: ids as red and green of a PNG, and CIELAB colours."""
    found = superpixels(np.frombuffer(pixels, np.uint8).reshape(height, width, 3))
    numbers = np.dstack([found.ids % 256, found.ids // 256, np.zeros_like(found.ids)]).astype(np.uint8)
    return {"uri": data_uri(numbers), "colours": found.colours.round(1).ravel().tolist()}


def _count_answer() -> None:
    st.session_state["answers"] = st.session_state.get("answers", 0) + 1


def _buttons(classes: ClassList) -> list[dict[str, object]]:
    pairs = enumerate(zip(classes.names, classes.colours, strict=True))
    buttons: list[dict[str, object]] = [
        {"id": i, "name": name, "colour": list(colour), "key": str(i + 1) if i < 9 else ""}
        for i, (name, colour) in pairs
    ]
    return [*buttons, {"id": IGNORE, "name": "Do not score", "colour": [0, 0, 0], "key": "0"}]


def data_uri(picture: NDArray[np.uint8]) -> str:
    """Encode (H, W, 3) RGB or (H, W, 4) RGBA pixels as a PNG data URI."""
    png = BytesIO()
    Image.fromarray(picture).save(png, "png")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode('ascii')}"
