"""The latest sign-off of a predicted slide as a file beside its results, so that it travels with them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytoseg.errors import PredictionError
from cytoseg.predict.summary import summary_of
from cytoseg.records import RecordFile
from cytoseg.writing import write_atomically

SIGN_OFF = "sign_off.json"
HEAD = ("verdict", "author", "time", "comment", "bundle", "of this prediction")


@dataclass(frozen=True)
class SignedOff:
    """A verdict on a predicted slide.

    Attributes:
        slide: Key of the slide.
        verdict: Such as "approved".
        author: Who signed the slide off.
        time: UTC, ISO 8601.
        comment: Free text; may be empty.
        bundle: Hash of the bundle of the prediction that was signed off; empty if unknown.
    """

    slide: str
    verdict: str
    author: str
    time: str
    comment: str = ""
    bundle: str = ""


_FILE = RecordFile(SignedOff, PredictionError, "Sign the slide off again.")


def write_signed_off(prediction: Path, said: SignedOff) -> None:
    """Write the latest sign-off beside the results, unless it already exists.

    Args:
        prediction: Folder of the slide's results.
        said: The sign-off to store.

    Raises:
        PredictionError: If the folder cannot be written.
    """
    path = prediction / SIGN_OFF
    if _FILE.read_or_none(path) == said:
        return
    try:
        write_atomically(path, json.dumps(_FILE.content_of(said), indent=1, ensure_ascii=False))
    except OSError as error:
        raise PredictionError(
            f"{SIGN_OFF}: cannot be written ({error.strerror or error}). The sign-off is in the log, however."
        ) from error


def read_signed_off(prediction: Path) -> SignedOff | None:
    """Read the sign-off beside the results; None if there is none.

    Raises:
        PredictionError: If the file is damaged or may not be read.
    """
    try:
        return _FILE.read(prediction / SIGN_OFF)
    except FileNotFoundError:
        return None


def cells_of(prediction: Path) -> Sequence[str]:
    """Return the sign-off of a prediction as text under `HEAD`; empty text if there is none.

    Raises:
        PredictionError: If the file is damaged or may not be read.
    """
    said = read_signed_off(prediction)
    if said is None:
        return ("",) * len(HEAD)
    same = "no" if is_outdated(said.bundle, bundle_of(prediction)) else "yes"
    return (said.verdict, said.author, said.time, said.comment, said.bundle, same)


def bundle_of(prediction: Path) -> str:
    """Return one hash for the bundle of a prediction; empty if its summary does not state it.

    Args:
        prediction: Prediction folder of the slide.

    Returns:
        64 hexadecimal digits: SHA-256 over the names and hashes of the bundle's weights.
    """
    try:
        return bundle_hash(summary_of(prediction).provenance["bundle"]["sha256"])
    except (LookupError, TypeError, AttributeError):
        return ""


def bundle_hash(weights: Mapping[str, str]) -> str:
    """Return one hash for a bundle from the hashes of its weights by name; see ``bundle_of``."""
    named = sorted((str(name), str(found)) for name, found in weights.items())
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def is_outdated(signed: str, bundle: str) -> bool:
    """Return whether a slide has since been predicted with another bundle than the one signed off.

    Args:
        signed: Hash of the bundle that was signed off.
        bundle: Hash of the bundle of the prediction now; empty if unknown.
    """
    return bool(bundle) and signed != bundle
