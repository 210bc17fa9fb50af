"""The mark in the text of a PNG that says a diffusion model drew or edited the image."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL.Image import DecompressionBombError
from PIL.PngImagePlugin import PngImageFile, PngInfo

from cytoseg.slides.parser_errors import DAMAGE

_SAYS = "by a diffusion model, not a patient's"
_NOTE, _SLIDE, _OF = "Comment", "Edited slide", "Edited image"
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_PX = 2048**2
"""Of larger images, text behind the pixels is not searched: it is found only by decoding them."""


@dataclass(frozen=True)
class GeneratedMark:
    """What is known of a generated or edited image.

    Attributes:
        note: Sentence for people, in the file's Comment.
        slide: The slide of the image that was edited, if known.
        of: Pixel hash of the image that was edited; empty for one drawn from noise.
    """

    note: str
    slide: str = ""
    of: str = ""


def drawn_mark(source: str) -> GeneratedMark:
    """Return the mark of an image drawn from noise; ``source`` names its model."""
    return GeneratedMark(f"Made {_SAYS}: {source}.")


def edited_mark(source: str, *, slide: str, of: str) -> GeneratedMark:
    """Return the mark of an edited image; ``source`` names the original."""
    return GeneratedMark(f"Edited {_SAYS}: {source}.", slide, of)


def png_text(mark: GeneratedMark | None) -> PngInfo:
    """Return the text that an image is saved with as PNG (``pnginfo``), empty for one that is not made."""
    text = PngInfo()
    if mark is not None:
        for key, value in ((_NOTE, mark.note), (_SLIDE, mark.slide), (_OF, mark.of)):
            if value:
                text.add_itxt(key, value) if not value.isascii() else text.add_text(key, value)
    return text


def read_mark(source: Path | bytes) -> GeneratedMark | None:
    """Read the mark of an image.

    Args:
        source: A file, or the bytes of one.

    Returns:
        None if it has none, or is no PNG; a damaged file is left to the reader of its pixels.
    """
    try:
        with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            if file.read(len(_PNG)) != _PNG:
                return None
            file.seek(0)
            with PngImageFile(file) as image:
                mark = _mark_of(image.info)
                if mark is None and image.width * image.height <= _MAX_PX:
                    mark = _mark_of(image.text)  # also what is behind the pixels
                return mark
    except (*DAMAGE, DecompressionBombError):
        return None


def _mark_of(found: Mapping[Any, Any]) -> GeneratedMark | None:
    texts = {str(key): str(value) for key, value in found.items() if isinstance(value, str)}
    note = next((text for text in texts.values() if _SAYS in text), None)
    return None if note is None else GeneratedMark(note, texts.get(_SLIDE, ""), texts.get(_OF, ""))
