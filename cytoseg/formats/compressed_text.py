"""Reading plain, .gz or .zip text files within a size limit."""

import gzip
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from cytoseg.errors import CytosegError, LabelError
from cytoseg.json_text import read_regular
from cytoseg.limits import limit, raise_it

GEOJSON = ".geojson"
_SIZE = "CYTOSEG_MAX_JSON_MB"
_JSON = (GEOJSON, ".json")
_PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".tar", ".tgz", ".7z", ".rar")
_MAX_MEMBERS = 1000
_PIECE = 2**20
_END, _END_SIZE, _COUNT = b"PK\5\6", 22, 10  # a zip ends with this record and a comment of up to 64 KB

_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, ValueError, LookupError, OverflowError)
"""Exceptions raised by the library on damaged archives; NotImplementedError is a RuntimeError."""


def is_geojson_name(path: Path) -> bool:
    """Return whether a file is GeoJSON by name, compressed or not; a .zip is inspected."""
    name = path.name.lower()
    if name.endswith(".zip"):
        return any(member.lower().endswith(GEOJSON) for member in _members(path))
    return name.removesuffix(".gz").endswith(GEOJSON)


def is_packed(path: Path) -> bool:
    """Return whether a file name is that of an archive or a compressed file, readable here or not."""
    return path.name.lower().endswith(_PACKED)


def plain_stems(path: Path) -> tuple[str, ...]:
    """Return the possible stems of a compressed or plain file; for a .zip also its member's."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    members = _members(path) if path.suffix.lower() == ".zip" else []
    found = [name, *(PurePosixPath(member).name for member in members if _is_json(member))]
    return tuple(dict.fromkeys(text[: -len(Path(text).suffix)] if Path(text).suffix else text for text in found))


def read_unpacked(path: Path, *, name: str) -> bytes:
    """Read a file; gzip is decompressed, and a zip archive must contain one GeoJSON or JSON file.

    The first bytes decide, not the name: browsers decompress downloads and keep their names.

    Args:
        path: The file.
        name: Its name in messages.

    Raises:
        FileContentError: If it is not a regular file or is too long.
        LabelError: If the archive is damaged, encrypted, or contains several such files or too long a file.
        OSError: If the file is missing or may not be read.
    """
    try:
        match _start(path):
            case b"\x1f\x8b":
                with gzip.open(path) as file:
                    return _read(file, name)
            case b"PK":
                return _read_member(path, name)
            case _ if path.suffix.lower() == ".zip":  # data may precede the archive
                return _read_member(path, name)
            case _:
                return read_regular(path, name=name, most_bytes=_most_bytes(), variable=_SIZE)
    except CytosegError:
        raise
    except (gzip.BadGzipFile, EOFError, *_DAMAGED) as error:
        raise LabelError(f"{name}: cannot be unpacked ({error}). Unpack it by hand, or export it again.") from error


def _start(path: Path) -> bytes:
    if not path.is_file():  # a pipe may block forever
        return b""
    with path.open("rb") as file:
        return file.read(2)


def _read_member(path: Path, name: str) -> bytes:
    members = [member for member in _members(path) if _is_json(member)]
    if len(members) != 1:
        raise LabelError(f"{name}: holds {len(members)} GeoJSON files, but must hold one. Unpack it by hand.")
    with zipfile.ZipFile(path) as archive, archive.open(members[0]) as file:
        return _read(file, name)


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


def _is_json(member: str) -> bool:
    place = PurePosixPath(member)
    # macOS adds a metadata twin of each file in a separate folder.
    return place.suffix.lower() in _JSON and not place.name.startswith(".") and "__MACOSX" not in place.parts


def _read(file: "IO[bytes] | gzip.GzipFile", name: str) -> bytes:
    data, most = bytearray(), _most_bytes()
    while piece := file.read(_PIECE):
        data += piece
        if len(data) > most:
            raise LabelError(f"{name}: holds over {most / 1e6:,.0f} MB of text. {raise_it(_SIZE)}")
    return bytes(data)


def _most_bytes() -> int:
    """Return the size limit of a text: parsed JSON takes at least three times as much memory."""
    return limit(_SIZE) * 333_333
