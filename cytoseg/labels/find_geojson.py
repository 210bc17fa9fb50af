"""Finding GeoJSON files in a folder, plain or compressed."""

from collections.abc import Sequence
from pathlib import Path

from cytoseg.errors import LabelError
from cytoseg.formats.compressed_text import is_geojson_name, json_members
from cytoseg.formats.json_files import Inspected
from cytoseg.formats.qupath import is_geojson

PACKED_JSON = ".json.gz"


def holds_geojson(path: Path, inspected: Inspected) -> bool:
    """Return whether a file is GeoJSON; damaged JSON is left to the labelme reader, which reports it."""
    return path.suffix.lower() != ".json" or _has_features(path, None, inspected)


def packed_or_named(folder: Path, inspected: Inspected) -> list[Path]:
    """Find the files of a folder tree that are GeoJSON by name, and the compressed JSON files that hold only GeoJSON.

    Args:
        folder: Where to look; hidden files are skipped, and plain .json files left to the caller.
        inspected: Keeps the content of the files that are parsed.
    """
    files = (path for path in folder.rglob("*") if path.is_file())
    seen = (path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return [path for path in seen if is_geojson_name(path) or _packs_geojson(path, inspected)]


def _packs_geojson(path: Path, inspected: Inspected) -> bool:
    members: Sequence[str | None] = ()
    if path.name.lower().endswith(PACKED_JSON):
        members = (None,)
    elif path.suffix.lower() == ".zip":
        found = json_members(path)
        members = found if len(found) > 1 else (None,) * len(found)  # as a single one is read
    return bool(members) and all(_has_features(path, one, inspected) for one in members)


def _has_features(path: Path, member: str | None, inspected: Inspected) -> bool:
    try:
        return is_geojson(inspected.inspect(path, name=path.name, advice="", member=member))
    except LabelError:
        return False
