"""Finding the image of a labelme file, even if moved or renamed."""

from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from cytoseg.errors import LabelError
from cytoseg.patterns import plain_name
from cytoseg.quoting import short_repr

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Lower-case suffixes of images."""

_FEW = 3
"""Most images beside a file that are named if none resembles ``imagePath``."""

_FORMATS = {suffix: suffix.replace("jpeg", "jpg").replace("tiff", "tif") for suffix in PICTURES}


def find_picture(text: object, path: Path, *, root: Path) -> Path:
    """Find the image of a labelme file, never outside the root folder.

    In this order: ``imagePath`` (the file name only, if it is absolute or leads out of the root), the same in another
    case or with the missing suffix, and the image beside the file with its stem (both were renamed together, or
    ``imagePath`` is empty). An image of another format may be a different one: it is mentioned in the error, not used.

    Args:
        text: ``imagePath``, with forward or backward slashes.
        path: The labelme file.
        root: Folder that must contain the image; names in messages are relative to it.

    Returns:
        The image's file.

    Raises:
        LabelError: If there is none, or it is ambiguous.
    """
    name = path.relative_to(root).as_posix()
    written = PureWindowsPath(text) if isinstance(text, str) and "\0" not in text else PureWindowsPath()
    own = _of_stem(path.parent, path.stem, root)
    if not written.name:
        return _only_one(own, text, name)
    target, absolute = _target(str(text), path, root=root)
    if _is_file(target):
        return target
    near = _named_alike(path.parent, target.relative_to(path.parent).parts, root)
    suffix = target.suffix if target.suffix.lower() in PICTURES else None
    fitting = [picture for picture in near if _same_format(picture.suffix, suffix)]
    beside = [picture for picture in own if not near and suffix and _same_format(picture.suffix, suffix)]
    if len(fitting or beside) == 1:
        return (fitting or beside)[0]
    place = f"is an absolute path and '{written.name}' is not next to the file" if absolute else "does not exist"
    few = [child for child in _children(path.parent, root) if child.suffix.lower() in PICTURES]
    candidates = [*near, *own] or (few if len(few) <= _FEW else [])
    if others := " or ".join(sorted({candidate.name for candidate in candidates})):
        raise LabelError(f"{name}: the image '{text}' {place}. If it is {others}, write that as imagePath.")
    raise LabelError(f"{name}: the image '{text}' {place}. Put it there, or save the file with its image data.")


def _target(text: str, path: Path, *, root: Path) -> tuple[Path, bool]:
    """Return where ``imagePath`` points, and whether it is absolute.

    A path of the annotator's machine, absolute or out of the root, counts only by its file name.

    Raises:
        LabelError: If it points out of the root and there is no file of that name beside the labelme file.
    """
    written = PureWindowsPath(text)  # understands both kinds of slash
    absolute = bool(written.drive or written.root)
    target = path.parent.joinpath(*(written.parts[-1:] if absolute else written.parts))
    if _within(target, root):
        return target, absolute
    beside = path.parent / written.name
    if ".." in written.parts and _is_file(beside) and _within(beside, root):
        return beside, absolute
    raise LabelError(
        f"{path.relative_to(root).as_posix()}: imagePath '{text}' points outside {root}. Name a folder that holds "
        "both, or move the image into it."
    )


def _only_one(own: list[Path], text: object, name: str) -> Path:
    """Return the image with the stem of a file whose ``imagePath`` names none.

    Raises:
        LabelError: If there is none, or several.
    """
    if len(own) == 1:
        return own[0]
    found = f"{' and '.join(sorted(picture.name for picture in own))} beside it" if own else "no 'imageData'"
    raise LabelError(
        f"{name}: 'imagePath' is {short_repr(text)} and there is {found}. Save it again in labelme, or write the "
        "image's name there."
    )


def is_renamed(text: object, picture: Path) -> bool:
    """Return whether the image found for a labelme file has a different stem than ``imagePath``."""
    return not plain_name(PureWindowsPath(str(text)).name).startswith(plain_name(picture.stem))


def _named_alike(folder: Path, parts: tuple[str, ...], root: Path) -> list[Path]:
    """Follow a path case-insensitively and return the images with its stem."""
    *folders, last = parts
    for part in folders:
        below = folder / part
        if part != ".." and not below.is_dir():
            same = [
                child
                for child in _children(folder, root)
                if plain_name(child.name) == plain_name(part) and child.is_dir()
            ]
            if len(same) != 1:
                return []
            below = same[0]
        folder = below
    stem = last[: -len(suffix)] if (suffix := PureWindowsPath(last).suffix).lower() in PICTURES else last
    return _of_stem(folder, stem, root)


def _of_stem(folder: Path, stem: str, root: Path) -> list[Path]:
    """Return the images with a stem, case-insensitively only if none matches exactly."""
    found = [
        child
        for child in _children(folder, root)
        if child.suffix.lower() in PICTURES and plain_name(child.stem) == plain_name(stem) and _within(child, root)
    ]
    return [picture for picture in found if picture.stem == stem] or found


def _same_format(suffix: str, wanted: str | None) -> bool:
    """Return whether an image has the named format: another format may be a mask or an overlay."""
    return wanted is None or _FORMATS[suffix.lower()] == _FORMATS[wanted.lower()]


def _children(folder: Path, root: Path) -> Iterator[Path]:
    return folder.iterdir() if _within(folder, root) and folder.is_dir() else iter(())


def _within(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # name too long, a symlink loop, or invalid characters
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # for example a name too long for the file system
        return False
