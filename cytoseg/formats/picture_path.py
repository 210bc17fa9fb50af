"""Find the picture that a labelme file names, though it was moved, renamed or written down on another system."""

from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from cytoseg.errors import LabelError

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Suffixes of pictures, in small letters."""

_FORMATS = {suffix: suffix.replace("jpeg", "jpg").replace("tiff", "tif") for suffix in PICTURES}


def find_picture(text: object, path: Path, *, root: Path) -> Path:
    """Find the picture of a labelme file, never outside the root folder.

    Taken are what ``imagePath`` says, a whole path standing for its last part, or else the same with other capitals or
    with the suffix that it lacks. Where nothing is named alike, the picture beside the file that has its stem is taken:
    both were renamed together. A picture of another format may be another one: it is told of, not taken.

    Args:
        text: ``imagePath``, with slashes of either kind.
        path: The labelme file.
        root: Folder that the picture must lie in; names in messages are relative to it.

    Returns:
        The picture's file.

    Raises:
        LabelError: If there is none, or several would do.
    """
    name = path.relative_to(root).as_posix()
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise LabelError(f"{name}: 'imagePath' is {text!r} and there is no 'imageData'. Save it again in labelme.")
    written = PureWindowsPath(text)  # knows both kinds of slash
    absolute = bool(written.drive or written.root)
    # A whole path is from the machine where it was annotated; here only the file's name means anything.
    parts = written.parts[-1:] if absolute else written.parts
    target = path.parent.joinpath(*parts)
    if not _within(target, root):
        raise LabelError(
            f"{name}: imagePath '{text}' points outside {root}. Name a folder that holds both, or move the "
            "image into it."
        )
    if _is_file(target):
        return target
    near = _named_alike(path.parent, parts, root)
    own = _of_stem(path.parent, path.stem, root)
    suffix = target.suffix if target.suffix.lower() in PICTURES else None
    fitting = [picture for picture in near if _same_format(picture.suffix, suffix)]
    beside = [picture for picture in own if not near and suffix and _same_format(picture.suffix, suffix)]
    if len(fitting or beside) == 1:
        return (fitting or beside)[0]
    place = f"is an absolute path and '{written.name}' is not next to the file" if absolute else "does not exist"
    if others := " or ".join(sorted({candidate.name for candidate in (*near, *own)})):
        raise LabelError(f"{name}: the picture '{text}' {place}. If it is {others}, write that as imagePath.")
    raise LabelError(f"{name}: the picture '{text}' {place}. Put it there, or save the file with its image data.")


def is_renamed(text: object, picture: Path) -> bool:
    """Tell whether the picture that was found for a labelme file has another stem than ``imagePath`` says."""
    return not PureWindowsPath(str(text)).name.lower().startswith(picture.stem.lower())


def _named_alike(folder: Path, parts: tuple[str, ...], root: Path) -> list[Path]:
    """Follow a path without regard to capitals, and give the pictures of its last part's stem."""
    *folders, last = parts
    for part in folders:
        below = folder / part
        if part != ".." and not below.is_dir():
            same = [child for child in _children(folder, root) if child.name.lower() == part.lower() and child.is_dir()]
            if len(same) != 1:
                return []
            below = same[0]
        folder = below
    stem = last[: -len(suffix)] if (suffix := PureWindowsPath(last).suffix).lower() in PICTURES else last
    return _of_stem(folder, stem, root)


def _of_stem(folder: Path, stem: str, root: Path) -> list[Path]:
    """Return the pictures of a stem; of other capitals only where none has these."""
    found = [
        child
        for child in _children(folder, root)
        if child.suffix.lower() in PICTURES and child.stem.lower() == stem.lower() and _within(child, root)
    ]
    return [picture for picture in found if picture.stem == stem] or found


def _same_format(suffix: str, wanted: str | None) -> bool:
    """Return whether a picture is what was named: another format may be a mask or an overlay of the same name."""
    return wanted is None or _FORMATS[suffix.lower()] == _FORMATS[wanted.lower()]


def _children(folder: Path, root: Path) -> Iterator[Path]:
    return folder.iterdir() if _within(folder, root) and folder.is_dir() else iter(())


def _within(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # too long a name, or links in a ring
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name too long for the file system
        return False
