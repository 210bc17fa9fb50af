"""Detecting text encodings: UTF-8, UTF-16, GBK or Windows-1252."""

import codecs
import re

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose byte order mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# One or two accented letters between ASCII letters, as in größer or façade; Chinese text has longer or separate runs.
_WESTERN = re.compile("(?<=[A-Za-z])[À-ÖØ-öø-ÿ]{1,2}|[À-ÖØ-öø-ÿ]{1,2}(?=[A-Za-z])")
_NOT_WESTERN = re.compile("[^\0-\x7fÀ-ÖØ-öø-þŒœŠšŽžŸ€‚„…‘’“”«»–—µ°²³§¡¿\N{NO-BREAK SPACE}]")
_MAX_GUESSED = 50_000_000  # bytes
_PIECE = 2**20
_LATIN, _CHINESE = "cp1252", "gb18030"


def encoding_of(data: bytes) -> str:
    """Guess the encoding of JSON text.

    Args:
        data: The whole text.

    Returns:
        Name of a codec. If decoding still fails, the text is in another encoding or damaged.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    # JSON starts with two ASCII characters, so zero bytes reveal the width and byte order.
    zeros = [byte == 0 for byte in data[:4]]
    if len(zeros) == 4 and any(zeros):
        wide = {(False, True, True, True): "utf-32-le", (True, True, True, False): "utf-32-be"}
        return wide.get((zeros[0], zeros[1], zeros[2], zeros[3]), "utf-16-be" if zeros[0] else "utf-16-le")
    return "utf-8" if _is_utf_8(data) or len(data) > _MAX_GUESSED else _eight_bit(data)


def is_unicode(encoding: str) -> bool:
    """Return whether an encoding was detected with certainty rather than guessed."""
    return encoding.startswith("utf")


def _eight_bit(data: bytes) -> str:
    western, chinese = _reads(data, _LATIN), _reads(data, _CHINESE)
    if western is None or _NOT_WESTERN.search(western):
        return "utf-8" if chinese is None else _CHINESE
    return _LATIN if chinese is None or _WESTERN.sub("", western).isascii() else _CHINESE


def _is_utf_8(data: bytes) -> bool:
    """Return whether a text is valid UTF-8, without a decoded copy in memory."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), _PIECE):
            decoder.decode(data[start : start + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _reads(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None
