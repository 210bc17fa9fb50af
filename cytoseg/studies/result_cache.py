"""Cache of results in JSON files, keyed by a digest of their inputs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cytoseg.errors import CytosegError
from cytoseg.records import RecordFile
from cytoseg.writing import write_atomically


@dataclass(frozen=True)
class StoredResult:
    """A result; its subclasses add the values.

    Attributes:
        digest: From ``digest_of``.
    """

    digest: str


Found = TypeVar("Found", bound=StoredResult)


def result_file(kind: type[Found]) -> RecordFile[Found]:
    """Return the kind of JSON file that stores a result; earlier versions wrote no format number."""
    return RecordFile(kind, CytosegError, "Run the study again.", unnumbered=True)


def digest_of(decides: Mapping[str, Any]) -> str:
    """Hash the inputs of a result; 64 hexadecimal digits.

    Args:
        decides: The inputs as JSON; the order of keys is ignored.
    """
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def read_result(path: Path, digest: str, file: RecordFile[Found]) -> Found | None:
    """Return a stored result, or None if it is missing, damaged or has another digest.

    Args:
        path: Its JSON file.
        digest: From ``digest_of``.
        file: From ``result_file``.
    """
    found = file.read_or_none(path)
    return found if found is not None and found.digest == digest else None


def are_counts(found: tuple[tuple[tuple[int, ...], ...], ...], classes: int) -> bool:
    """Return whether stored values are confusion counts, (N, classes, classes) and none below 0."""
    square = all(len(one) == classes and all(len(row) == classes for row in one) for one in found)
    return square and all(count >= 0 for one in found for row in one for count in row)


def write_result(path: Path, result: Found, file: RecordFile[Found]) -> Found:
    """Write a result as JSON, and return it; parameters as in ``read_result``."""
    write_atomically(path, json.dumps(file.content_of(result)) + "\n")
    return result
