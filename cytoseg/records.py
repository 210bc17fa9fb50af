"""Records: our JSON files as frozen dataclasses, validated by pydantic.

Every file has a format number. Unknown keys are ignored, so that a later version can add some; changing the meaning of
a key requires a new number.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field, PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from cytoseg.errors import CytosegError, FileContentError
from cytoseg.geometry import Region
from cytoseg.json_text import Numbers, load_json
from cytoseg.quoting import short_repr

Record = TypeVar("Record")

RegionAsList = Annotated[Region, PlainValidator(Region.from_json), PlainSerializer(Region.as_json)]
"""A region stored as ``[x, y, width, height]``."""

FolderOfFile = Annotated[Path, Field(default=Path(), exclude=True)]
"""The folder of a file, set by its reader and not stored."""


def file_key(name: str) -> Any:
    """Annotate a field that has another name in its file."""
    return Field(alias=name)


@dataclass(frozen=True)
class RecordFile(Generic[Record]):
    """A kind of JSON file: its dataclass, and the messages on invalid files.

    Attributes:
        kind: The dataclass of its content, without ``format``.
        error: Class of the errors raised.
        advice: What to do about a damaged file, as a sentence; ``{folder}`` in it is the file's.
        format: Format number.
        unnumbered: Whether files without a number, written by earlier versions, have this format.
        damaged: Message after the file's name; ``{why}`` names the invalid field.
        other_format: Message for another format, with ``{found}`` and ``{format}``.
        not_json: Message for invalid JSON, with ``{why}`` and the ``{kind}`` of the underlying error.
        numbers: See ``load_json``.
    """

    kind: type[Record]
    error: type[CytosegError]
    advice: str
    format: int = 1
    unnumbered: bool = False
    damaged: str = "{why}"
    other_format: str = "has format {found}, this version reads {format}"
    not_json: str = "{why}"
    numbers: Numbers = "finite"

    def read(self, path: Path, *, name: str = "") -> Record:
        """Read a file.

        Args:
            path: The file.
            name: Its name in messages; the file's own by default.

        Raises:
            CytosegError: Of the kind ``error``, if the file is damaged, of another format or may not be read: one line.
            FileNotFoundError: If it is missing.
        """
        called = name or path.name
        try:
            content = load_json(path, name=called, numbers=self.numbers)
        except FileContentError as error:
            kind = type(error.__cause__ or error).__name__
            raise self._error(path, called, self.not_json.format(why=error.why, kind=kind)) from error
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self.error(
                f"{called}: cannot be read ({error.strerror or type(error).__name__}). Ask its owner for permission."
            ) from error
        return self._parsed(content, path, called)

    def read_or_none(self, path: Path) -> Record | None:
        """Read a file that can be regenerated: None if it is missing, damaged or of another format."""
        try:
            return self.read(path)
        except (OSError, CytosegError):
            return None

    def record_of(self, content: object) -> Record:
        """Check parsed JSON, without the format number.

        Raises:
            ValueError: Names the first field that is wrong.
        """
        try:  # as text: from JSON pydantic accepts lists for tuples, but no text for a number
            return self._adapter.validate_json(json.dumps(content), strict=True)
        except ValidationError as error:
            raise ValueError(_why(error)) from error

    def content_of(self, record: Record, *, without_defaults: bool = False) -> dict[str, Any]:
        """Return the JSON content, starting with the format number.

        Args:
            record: The content.
            without_defaults: Omit default values.
        """
        found = self._adapter.dump_python(record, mode="json", by_alias=True, exclude_defaults=without_defaults)
        return {"format": self.format, **found}

    def _parsed(self, content: object, path: Path, name: str) -> Record:
        if not isinstance(content, dict):
            raise self._error(path, name, self.damaged.format(why="the file contains no record"))
        found = content.get("format")
        if found != self.format and not (self.unnumbered and "format" not in content):
            raise self._error(path, name, self.other_format.format(found=short_repr(found), format=self.format))
        try:
            return self.record_of(content)
        except ValueError as error:
            raise self._error(path, name, self.damaged.format(why=error)) from error

    def _error(self, path: Path, name: str, what: str) -> CytosegError:
        return self.error(f"{name}: {what}. {self.advice.format(folder=path.parent)}")

    @cached_property
    def _adapter(self) -> TypeAdapter[Record]:
        return TypeAdapter(self.kind)


def _why(error: ValidationError) -> str:
    """Describe the first invalid field and its value: ``crop 3 has no usable 'iou' (...)``."""
    first = error.errors(include_url=False)[0]
    place = first["loc"]
    of_record = first["type"] in ("dataclass_type", "value_error")  # the latter is the dataclass's own check
    listed = len(place) > 2 - of_record and isinstance(place[1], int)
    where = f"{_singular(str(place[0]))} {int(place[1]) + 1}" if listed else "the file"
    if first["type"] == "value_error":
        text = str(first["ctx"]["error"])
        return f"{where}: {text}" if listed else text
    if listed and len(place) == 2:
        return f"'{place[0]}' is not a list of records"
    field = next((part for part in reversed(place) if isinstance(part, str)), "")
    found = None if first["type"] == "missing" else first["input"]
    return f"{where} has no usable '{field}' (found {str(found)[:40]!r})"


def _singular(name: str) -> str:
    return name.removesuffix("es" if name.endswith("sses") else "s")
