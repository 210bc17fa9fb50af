"""Rules of an import, and the facts collected while it runs."""

import codecs
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from shlex import quote

from cytoseg.classes import IGNORE, ClassList
from cytoseg.errors import LabelError, report
from cytoseg.formats.annotation import HOLE, UNSCORED, AreaRule
from cytoseg.formats.json_files import Inspected
from cytoseg.formats.qupath import NOT_SCORED
from cytoseg.labels.corrections import Correction
from cytoseg.labels.slide_crops import SlideRules
from cytoseg.patterns import composed
from cytoseg.quoting import MAX_LINE, join_fitting, one_line

_LONG = 60  # characters of a name or of the class list that a message repeats
_LONGEST_NAME = 200
_OTHERS = len(". and 10000 more")

_VALUE = r"0|-?[1-9][0-9]{0,9}"

NOTHING = "0"
"""Name for --map and --ignore of the pixels of an instance map outside all objects."""


@dataclass(frozen=True)
class ImportRules:
    """How an import maps class names, slides and outlines.

    Attributes:
        class_map: Class name in the files -> name in the class list.
        ignore: Class names in the files that become ignore.
        slide_regex: Extracts the slide from an image's stem if no sidecar names it: its one group, or the whole match.
            None takes the stem itself.
        area: How polygons and other areas are filled, see `annotation.AreaRule`.
        slides: How crops are cut from slides annotated in GeoJSON files.
        instances: Class of the objects in instance maps, or ``UNSCORED``; None if masks hold class ids. The rest is the
            fill class, unless class_map or ignore assign ``NOTHING``.
        resize_px: Side that square images and their masks are resized to; None imports them as they are.
        least_px: Classes with fewer pixels in a (resized) mask are ignored in it.
    """

    class_map: Mapping[str, str] = field(default_factory=dict)
    ignore: Sequence[str] = ()
    slide_regex: str | None = None
    area: AreaRule = "centre"
    slides: SlideRules = field(default_factory=SlideRules)
    instances: str | None = None
    resize_px: int | None = None
    least_px: int = 0


@dataclass(frozen=True, eq=False)
class ImportState:
    """State of an import.

    Attributes:
        root: Folder that contains all images; names in messages are relative to it.
        classes: The class list.
        rules: The user's.
        problems: A single one stops the import.
        notes: Sentences for the user.
        names: Class names found in the files, with counts.
        unknown: Names not in the class list after renaming, with counts.
        first: First occurrence of each unknown name.
        white: Count of mask pixels of value 255, by the id they became.
        small: Count of masks in which a class had fewer pixels than ``rules.least_px``, by its id.
        guessed: Files with a guessed encoding, and its name.
        renamed: Files whose image was renamed with them.
        unsure: Masks that fit their image both as stored and turned upright by its orientation tag.
        by_folder: Folders below the root (empty for the root) whose crops are named by folder: name of the slide, and
            beginning of the crops' ids.
        pictures: Files of those crops, by plain name and image hash.
        unmarked: Files without a shape.
        polygons: Number that look ``traced`` from pixel indices and number ``drawn``, without proposals.
        corrections: Corrections read, by crop.
        proposals: Files that began as a prediction.
        instances: Number of objects in each instance map.
        inspected: Content of the JSON files that were parsed to find out what they are.
    """

    root: Path
    classes: ClassList
    rules: ImportRules
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    white: Counter[int] = field(default_factory=Counter)
    small: Counter[int] = field(default_factory=Counter)
    guessed: dict[str, str] = field(default_factory=dict)
    renamed: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    by_folder: dict[str, tuple[str, str]] = field(default_factory=dict)
    pictures: dict[tuple[str, str], str] = field(default_factory=dict)
    unmarked: list[str] = field(default_factory=list)
    polygons: Counter[str] = field(default_factory=Counter)
    corrections: dict[str, list[Correction]] = field(default_factory=dict)
    proposals: set[Path] = field(default_factory=set)
    instances: list[int] = field(default_factory=list)
    inspected: Inspected = field(default_factory=Inspected)


def check_rules(rules: ImportRules, classes: ClassList) -> None:
    """Refuse invalid rules before any file is read.

    Raises:
        LabelError: If a name is unknown, or both mapped and ignored, or the pattern is invalid.
    """
    known = ", ".join(classes.names)
    problems = [
        f"--map {old}={new}: '{new}' is not in the class list ({known}). Map to one of these."
        for old, new in rules.class_map.items()
        if new not in (*classes.names, HOLE, UNSCORED)
    ]
    problems += [
        f"'{name}' appears in both --map and --ignore. Remove it from one."
        for name in rules.ignore
        if name in rules.class_map
    ]
    if rules.instances is not None and rules.instances not in (*classes.names, UNSCORED):
        problems.append(
            f"--instances {rules.instances}: is not in the class list ({known}). Name one of these, or {UNSCORED}."
        )
    try:
        groups = re.compile(rules.slide_regex or "").groups
    except re.error as error:
        problems.append(f"--slide-regex '{rules.slide_regex}' is not a valid regular expression ({error}). Fix it.")
    else:
        if groups > 1:
            problems.append(
                f"--slide-regex '{rules.slide_regex}' has {groups} groups. Keep one, for the slide; "
                "write the others as (?:...)."
            )
    if problems:
        raise LabelError(report(problems, what="label-import"))


def resolve(name: str, rules: ImportRules) -> str:
    """Return the class name that a name in the files maps to, known or not.

    A name that cannot be typed, for example one with a line break, can also be given as messages show it; accents may
    be in either form.
    """
    wanted = {NOT_SCORED: UNSCORED, **rules.class_map, **dict.fromkeys(rules.ignore, UNSCORED)}
    wanted |= {composed(typed): new for typed, new in wanted.items() if not typed.isascii()}
    found = (wanted[typed] for typed in (name, composed(name), one_line(name), _typed(name)) if typed in wanted)
    return next(found, name)


def in_class_list(name: str, classes: ClassList) -> str:
    """Return a name as the class list writes it; unchanged if it is not in the list.

    Accents may be in either form, and a name typed with a space around it is the same name.
    """
    if name in classes.names:
        return name
    plain = composed(name).strip()
    return next((known for known in classes.names if composed(known) == plain), name)


def values_named(rules: ImportRules, classes: ClassList) -> tuple[int, ...]:
    """List the values of masks that --map and --ignore give by number, except 255 and classes named like numbers.

    Raises:
        LabelError: If there are more than a byte can number beside the classes.
    """
    others = (name for name in (*rules.class_map, *rules.ignore) if name not in (*classes.names, str(IGNORE)))
    values = tuple(dict.fromkeys(int(name) for name in others if re.fullmatch(_VALUE, name)))
    most = IGNORE - len(classes)
    if len(values) > most:
        raise LabelError(
            f"--map and --ignore give {len(values)} values of masks by number; with {len(classes)} classes at most "
            f"{most} are read. Import the masks in parts, or merge values first."
        )
    return values


def unknown_message(state: ImportState) -> str:
    """List all unknown class names with counts in one message that says what to do, however long the names are."""
    names = state.classes.names
    close = {name: _meant(name, names) for name in state.unknown}
    name, wanted = next(((name, match[0]) for name, match in close.items() if match), (next(iter(close)), names[0]))
    typed = _typed(name)
    ignoring = f"leave them unscored with --ignore {quote(typed)}, " if len(typed) <= _LONG else ""
    advice = f" Rename with --map {quote(f'{typed}={wanted}')}, {ignoring}or add them to the recipe.{guesses(state)}"
    start = f"labels not in the class list ({join_fitting(names, max_chars=_LONG)}): "
    found = (
        f"'{name if len(name) <= _LONG else name[:_LONG] + '...'}' ({count} {'shape' if count == 1 else 'shapes'}, "
        f"first {state.first[name]})"
        for name, count in state.unknown.most_common()
    )
    return f"{start}{join_fitting(found, max_chars=MAX_LINE - len(start) - len(advice) - _OTHERS)}.{advice}"


def _meant(name: str, names: Sequence[str]) -> list[str]:
    """Return the class that a name may mean; of ``nucleus: positive``, a derived class of QuPath, its beginning."""
    near = get_close_matches(name, names, n=1, cutoff=0.7)
    return near or sorted((n for n in names if name.casefold().startswith(n.casefold())), key=len)[-1:]


def _typed(name: str) -> str:
    """Return a name as messages show it, which can be typed or pasted."""
    return one_line(name, max_chars=_LONGEST_NAME)


def guesses(state: ImportState) -> str:
    """Describe the files with a guessed encoding; empty if there are none."""
    return "".join(
        f" Files not in UTF-8 were read as {codecs.lookup(encoding).name}: {count}; if their names look wrong, convert "
        "them with iconv."
        for encoding, count in Counter(state.guessed.values()).items()
    )
