"""Cache of results in JSON files, keyed by a digest of their inputs."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytoseg.json_text import load_json
from cytoseg.writing import write_atomically


def digest_of(decides: Mapping[str, Any]) -> str:
    """Hash the inputs of a result; 64 hexadecimal digits.

    Args:
        decides: The inputs as JSON; the order of keys is ignored.
    """
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def read_result(path: Path, digest: str) -> dict[str, Any] | None:
    """Return a stored result, or None if it is missing, damaged or has another digest.

    Args:
        path: Its JSON file.
        digest: From ``digest_of``.
    """
    try:
        found = load_json(path)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("digest") == digest else None


def write_result(path: Path, digest: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Write a result with its digest as JSON, and return it."""
    found = {"digest": digest, **result}
    write_atomically(path, json.dumps(found) + "\n")
    return found
