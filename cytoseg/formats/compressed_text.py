"""Reading plain, .gz or .zip text files within a size limit."""

import gzip
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from cytoseg.errors import CytosegError, LabelError
from cytoseg.json_text import read_regular
from cytoseg.limits import how_to_raise, limit
from cytoseg.quoting import join_first, one_line
from cytoseg.slides.parser_errors import is_of_content

GEOJSON = ".geojson"
_SIZE = "CYTOSEG_MAX_JSON_MB"
_JSON = (GEOJSON, ".json")
_PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".tar", ".tgz", ".7z", ".rar")
_MAX_MEMBERS = 1000
_SHOWN, _LONGEST_NAME = 4, 200
_PIECE = 2**20
_GZIP = b"\x1f\x8b"
_END, _END_SIZE, _COUNT = b"PK\5\6", 22, 10  # a zip ends with this record and a comment of up to 64 KB

_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, ValueError, LookupError, OverflowError)
"""Exceptions raised by the library on a damaged table of contents; NotImplementedError is a RuntimeError."""


def is_geojson_name(path: Path) -> bool:
    """Return whether a file is GeoJSON by name, compressed or not; a .zip is inspected."""
    name = path.name.lower()
    if name.endswith(".zip"):
        return any(member.lower().endswith(GEOJSON) for member in _members(path))
    return name.removesuffix(".gz").endswith(GEOJSON)


def is_packed(path: Path) -> bool:
    """Return whether a file name is that of an archive or a compressed file, readable here or not."""
    return path.name.lower().endswith(_PACKED)


def json_members(path: Path) -> tuple[str, ...]:
    """Return the GeoJSON files in a zip archive, or its JSON files if it has none; empty for any other file."""
    found = [member for member in _members(path) if _is_json(member)] if _is_zip(path) else []
    return tuple([member for member in found if member.lower().endswith(GEOJSON)] or found)


def plain_stems(path: Path, member: str | None = None) -> tuple[str, ...]:
    """Return the possible stems of a compressed or plain file; for a .zip with one member also the member's.

    Args:
        path: The file.
        member: One of several files in a .zip, which alone gives the stem.
    """
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    members = [_place(found).name for found in ([member] if member else json_members(path))]
    found = members if member else [name, *members]
    return tuple(dict.fromkeys(text[: -len(Path(text).suffix)] if Path(text).suffix else text for text in found))


def read_unpacked(path: Path, *, name: str, member: str | None = None) -> bytes:
    """Read a file; gzip is decompressed, and of a zip archive one GeoJSON or JSON file is read.

    The first bytes decide, not the name: browsers decompress downloads and keep their names.

    Args:
        path: The file.
        name: Its name in messages.
        member: Which file of a zip archive; None if it contains only one.

    Raises:
        FileContentError: If it is not a regular file or is too long.
        LabelError: If the archive is damaged, encrypted, or contains several such files or too long a file.
        OSError: If the file is missing or may not be read.
    """
    try:
        match _start(path):
            case start if start == _GZIP:
                with gzip.open(path) as file:
                    return _read(file, name)
            case _ if _is_zip(path):
                return _read_member(path, name, member)
            case _:
                return read_regular(path, name=name, max_bytes=_max_bytes(), variable=_SIZE)
    except CytosegError:
        raise
    except Exception as error:
        if not is_of_content(error):
            raise
        raise LabelError(f"{name}: cannot be unpacked ({error}). Unpack it by hand, or export it again.") from error


def _start(path: Path) -> bytes:
    if not path.is_file():  # a pipe may block forever
        return b""
    with path.open("rb") as file:
        return file.read(2)


def _is_zip(path: Path) -> bool:
    """Return whether a file is a zip archive by its first bytes or, as data may precede the archive, by its name."""
    return _start(path) == b"PK" or (path.suffix.lower() == ".zip" and _start(path) != _GZIP)


def _read_member(path: Path, name: str, member: str | None) -> bytes:
    found = json_members(path) if member is None else (member,)
    if not found:
        instead = _instead(path) or f" that can be listed: it is empty or damaged, or holds over {_MAX_MEMBERS:,} files"
        raise LabelError(f"{name}: holds no GeoJSON file{instead}. Export it again, or unpack it and name the folder.")
    if len(found) > 1:
        raise LabelError(f"{name}: holds {len(found)} JSON files{_instead(path)}. Unpack it, and name the folder.")
    with zipfile.ZipFile(path) as archive, archive.open(found[0]) as file:
        return _read(file, name)


def _instead(path: Path) -> str:
    """List the first files of an archive for a message."""
    members = [one_line(_place(member).name, max_chars=_LONGEST_NAME) for member in _members(path) if member]
    return f" ({join_first(members, max_parts=_SHOWN, between=', ')})" if members else ""


def _members(path: Path) -> list[str]:
    """List the members of a zip file; empty if it is not one or has more members than any export."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _END_SIZE - 2**16))
            tail = file.read()
        at = tail.rfind(_END)
        if at < 0 or int.from_bytes(tail[at + _COUNT : at + _COUNT + 2], "little") > _MAX_MEMBERS:
            return []
        with zipfile.ZipFile(path) as archive:
            return [member.filename for member in archive.infolist()[:_MAX_MEMBERS] if not member.is_dir()]
    except (OSError, *_DAMAGED):
        return []


def _place(member: str) -> PurePosixPath:
    """Return the path of a member; some programs for Windows separate its parts by backslashes."""
    return PurePosixPath(member.replace("\\", "/"))


def _is_json(member: str) -> bool:
    place = _place(member)
    # macOS adds a metadata twin of each file in a separate folder.
    return place.suffix.lower() in _JSON and not place.name.startswith(".") and "__MACOSX" not in place.parts


def _read(file: "IO[bytes] | gzip.GzipFile", name: str) -> bytes:
    data, most = bytearray(), _max_bytes()
    while piece := file.read(_PIECE):
        data += piece
        if len(data) > most:
            raise LabelError(f"{name}: holds over {most / 1e6:,.0f} MB of text. {how_to_raise(_SIZE)}")
    return bytes(data)


def _max_bytes() -> int:
    """Return the size limit of a text: parsed JSON takes at least three times as much memory."""
    return limit(_SIZE) * 333_333
