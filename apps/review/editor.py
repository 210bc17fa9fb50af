"""The editor of label maps: a canvas in the browser (editor.js), with its answer checked."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import CytosegError

_HERE = Path(__file__).parent
_DRAWING = "drawing"
"""Key under which Streamlit keeps what the browser hands over."""


def _text(*names: str) -> str:
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names)


_PARTS = {"html": _text("editor.html"), "css": _text("editor.css"), "js": _text("editor.js", "editor_pixels.js")}
_canvas = st.components.v2.component("label_map_editor", **_PARTS)


@dataclass(frozen=True)
class Layer:
    """A result that can lie over the picture: its name in the browser, its title, and (H, W, 4) uint8 RGBA pixels."""

    name: str
    title: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Strokes:
    """What a person has drawn so far: (H, W) uint8 ids, 255 where nothing is marked; and the number of the stroke."""

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
    """Let a person paint a label map over a picture.

    Args:
        picture: (H, W, 3) uint8 RGB.
        ids: (H, W) uint8, what the work begins from; 255 for ignore.
        classes: Names and colours; unmarked pixels are the fill class and show the picture.
        token: Says what is edited. With another one the editor begins anew; what was painted under this one and not
            saved is shown again when it comes back.
        saved: The token of what has just been saved, so that the browser keeps it no longer.
        may_save: Whether the button saves; if not, it asks for a name.

    Returns:
        (H, W) uint8 ids when the person has pressed Save, in that one run of the page; else None.

    Raises:
        CytosegError: If what the browser sends is no label map of this picture.
    """
    height, width = ids.shape
    result = _canvas(
        key="editor",
        data={
            "token": token,
            "saved": saved,
            "may_save": may_save,
            "picture": data_uri(picture),
            "width": width,
            "height": height,
            "ids": packed(ids),
            "fill": classes.fill_id,
            "classes": _buttons(classes),
            # So that the browser hears of every answer, also of one that changed nothing.
            "answers": st.session_state.get("answers", 0),
        },
        on_saved_change=_count_answer,
    )
    answer = result.saved
    # Whoever presses Save and at once goes on sends the ids of one crop to another; they are kept in the browser.
    if not isinstance(answer, dict) or answer.get("token") != token:
        return None
    return unpacked(answer.get("ids"), height, width)


def draw(
    picture: NDArray[np.uint8],
    ids: NDArray[np.uint8],
    classes: ClassList,
    *,
    token: str,
    may_save: bool,
    saved_stroke: int,
    layers: Sequence[Layer] = (),
    proposed: NDArray[np.uint8] | None = None,
) -> None:
    """Let a person mark a picture; each stroke is handed over at once, see ``strokes_of``.

    Args:
        picture: (H, W, 3) uint8 RGB.
        ids: (H, W) uint8, what the work begins from; 255 where nothing is marked, which shows the picture.
        classes: Names and colours; the fill class is one to mark like any other.
        token: Says what is drawn on, see ``edit``.
        may_save: Whether strokes are handed over; if not, they are kept in the browser and a name is asked for.
        saved_stroke: Number of the last stroke that was saved.
        layers: Results to lay over the picture, the first one at once.
        proposed: (H, W) uint8 ids to take over by clicking; 255 where nothing is proposed.
    """
    height, width = ids.shape
    _canvas(
        key=_DRAWING,
        data={
            "token": token,
            "autosave": True,
            "may_save": may_save,
            "saved_stroke": saved_stroke,
            "picture": data_uri(picture),
            "width": width,
            "height": height,
            "ids": packed(ids),
            "fill": IGNORE,
            "classes": _buttons(classes)[:-1],
            "layers": [{"name": one.name, "title": one.title, "uri": data_uri(one.pixels)} for one in layers],
            "proposal": None if proposed is None else packed(proposed),
        },
        on_drawn_change=lambda: None,
        on_saved_change=lambda: None,
    )


def strokes_of(token: str, shape: tuple[int, ...]) -> Strokes | None:
    """Return what the browser has handed over for a work, before the page draws the editor.

    Args:
        token: Of the work.
        shape: (H, W) of its picture.

    Returns:
        What was drawn last; None if nothing was under this token.

    Raises:
        CytosegError: If it is not a label map of this picture.
    """
    found = st.session_state.get(_DRAWING)
    answer = found.get("drawn") if isinstance(found, Mapping) else None
    if not isinstance(answer, Mapping) or answer.get("token") != token or type(answer.get("stroke")) is not int:
        return None
    return Strokes(unpacked(answer.get("ids"), *shape), answer["stroke"])


def packed(ids: NDArray[np.uint8]) -> list[int]:
    """Write ids, row by row, as runs: id, how often, id, how often, and so on."""
    flat = ids.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    lengths = np.diff(starts, append=flat.size)
    return [int(number) for pair in zip(flat[starts], lengths, strict=True) for number in pair]


def unpacked(runs: object, height: int, width: int) -> NDArray[np.uint8]:
    """Read what `packed` wrote.

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
    """Write (H, W, 3) RGB or (H, W, 4) RGBA pixels as a PNG in an address."""
    png = BytesIO()
    Image.fromarray(picture).save(png, "png")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode('ascii')}"
