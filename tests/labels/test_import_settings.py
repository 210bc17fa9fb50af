import re
import shlex
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from cytoseg.classes import ClassList
from cytoseg.commands.label_import import _pairs
from cytoseg.errors import LabelError
from cytoseg.labels.import_settings import (
    ImportRules,
    ImportState,
    check_rules,
    in_class_list,
    resolve,
    unknown_message,
    values_named,
)
from cytoseg.labels.read_sources import read_item

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (ImportRules(class_map={"nuclei": "nucleuss"}), "--map nuclei=nucleuss: 'nucleuss' is not in the class list ("),
        (ImportRules(class_map={"a": "cell"}, ignore=("a",)), "'a' appears in both --map and --ignore"),
        (ImportRules(instances="nuclei"), "--instances nuclei: is not in the class list (background, cell, nucleus)."),
        (ImportRules(slide_regex="("), "--slide-regex '(' is not a valid regular expression ("),
        (ImportRules(slide_regex="(a)(b)"), "--slide-regex '(a)(b)' has 2 groups. Keep one"),
    ],
)
def test_rules_that_cannot_work_are_refused(classes: ClassList, rules: ImportRules, message: str) -> None:
    with pytest.raises(LabelError, match=re.escape(message)):
        check_rules(rules, classes)


def test_all_wrong_rules_are_reported_together(classes: ClassList) -> None:
    with pytest.raises(LabelError, match="2 problems"):
        check_rules(ImportRules(class_map={"a": "b"}, slide_regex="("), classes)


def test_what_qupath_ignores_is_ignore_unless_it_is_mapped() -> None:
    assert resolve("Ignore*", ImportRules()) == "__ignore__"
    assert resolve("Ignore*", ImportRules(class_map={"Ignore*": "cell"})) == "cell"


def test_a_name_with_a_space_around_it_is_the_same_name(classes: ClassList) -> None:
    assert [in_class_list(name, classes) for name in ("cell", " cell\n", "cells", "Cell")] == [
        "cell",
        "cell",
        "cells",
        "Cell",
    ]


def test_unknown_names_are_counted_with_a_way_out(
    tmp_path: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any]
) -> None:
    shapes = [square, square | {"label": "mucus"}, square | {"label": "nuclei"}, square | {"label": "mucus"}]
    state = ImportState(tmp_path, classes, ImportRules())
    read_item(write_labelme(tmp_path, "a", shapes), state)
    assert unknown_message(state) == (
        "labels not in the class list (background, cell, nucleus): 'mucus' (2 shapes, first a.json, shape 2), "
        "'nuclei' (1 shape, first a.json, shape 3). Rename with --map nuclei=nucleus, "
        "leave them unscored with --ignore nuclei, or add them to the recipe."
    )


@pytest.mark.parametrize(
    ("name", "wanted"), [("nucleus: positive", "nucleus"), ("Cell_12", "cell"), ("x", "background")]
)
def test_a_derived_class_is_proposed_as_its_class(
    tmp_path: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any], name: str, wanted: str
) -> None:
    state = ImportState(tmp_path, classes, ImportRules())
    read_item(write_labelme(tmp_path, "a", [square | {"label": name}]), state)
    assert f"--map {shlex.quote(f'{name}={wanted}')}, leave" in unknown_message(state)


@pytest.mark.parametrize("name", ["Immune cells", "Tumor: Positive", "it's $HOME `x` \\", "a=b", "-x; rm", "=1"])
def test_the_option_that_is_proposed_can_be_pasted_into_a_shell(
    tmp_path: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any], name: str
) -> None:
    state = ImportState(tmp_path, classes, ImportRules())
    read_item(write_labelme(tmp_path, "a", [square | {"label": name}]), state)
    text = unknown_message(state)
    words = shlex.split(text[text.index("--map ") : text.index(", leave them")])
    assert words == ["--map", f"{name}=background"]
    assert _pairs(words[1:], classes.names) == {name: "background"}
    ignored = shlex.split(text[text.index("--ignore ") : text.index(", or add them")])
    assert ignored == ["--ignore", name]


@pytest.mark.parametrize(
    ("name", "typed"), [("tab\there", "tab\\there"), ("two\nlines", "two lines"), ("\u202ex", "\\u202ex")]
)
def test_a_name_that_cannot_be_typed_goes_by_how_it_is_shown(
    tmp_path: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any], name: str, typed: str
) -> None:
    state = ImportState(tmp_path, classes, ImportRules())
    read_item(write_labelme(tmp_path, "a", [square | {"label": name}]), state)
    assert f"--map {shlex.quote(f'{typed}=background')}" in str(LabelError(unknown_message(state)))
    assert resolve(name, ImportRules(class_map={typed: "nucleus"})) == "nucleus"
    assert resolve(name, ImportRules(ignore=(typed,))) == "__ignore__"


@pytest.mark.parametrize(
    "name", ["kind {} of cells", "Tumour {} " + "of a long name " * 6, "{}" + "é" * 198, "{} " + "x" * 700]
)
@pytest.mark.parametrize("count", [1, 20])
def test_however_many_and_long_the_names_are_the_option_can_be_pasted(
    tmp_path: Path, write_labelme: Write, classes: ClassList, square: dict[str, Any], name: str, count: int
) -> None:
    state = ImportState(tmp_path, classes, ImportRules())
    read_item(write_labelme(tmp_path, "a", [square | {"label": name.format(i)} for i in range(count)]), state)
    text = str(LabelError(unknown_message(state)))
    end = re.search(", leave them|, or add them", text)
    assert end is not None
    (typed,) = shlex.split(text[text.index("--map ") + len("--map ") : end.start()])
    assert resolve(name.format(0), ImportRules(class_map=_pairs([typed], classes.names))) == "background"
    assert ("more. Rename" in text) == (count > 1)
    assert "first a.json, shape 1)" in text
    assert text.endswith(", or add them to the recipe.")


def test_of_a_long_class_list_the_first_are_named(tmp_path: Path, write_labelme: Write, square: dict[str, Any]) -> None:
    names = tuple(f"class number {i}" for i in range(60))
    state = ImportState(tmp_path, ClassList(names, tuple((i, 0, 0) for i in range(60)), None), ImportRules())
    read_item(write_labelme(tmp_path, "a", [square]), state)
    assert str(LabelError(unknown_message(state))) == (
        "labels not in the class list (class number 0, class number 1, class number 2 and 57 more): "
        "'cell' (1 shape, first a.json, shape 1). Rename with --map 'cell=class number 0', "
        "leave them unscored with --ignore cell, or add them to the recipe."
    )


def test_more_values_than_a_byte_holds_are_refused(classes: ClassList) -> None:
    rules = ImportRules(ignore=tuple(str(value) for value in range(1000, 1252)))
    assert values_named(rules, classes) == tuple(range(1000, 1252))
    with pytest.raises(LabelError, match=r"give 253 values of masks by number; with 3 classes at most 252 are read"):
        values_named(replace(rules, class_map={"7": "cell"}), classes)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_of_a_name_may_be_in_either_form(
    tmp_path: Path,
    write_labelme: Write,
    square: dict[str, Any],
    forms: tuple[Literal["NFC", "NFD"], Literal["NFC", "NFD"]],
) -> None:
    drawn, typed = (unicodedata.normalize(form, "Größe") for form in forms)
    classes = ClassList(("background", typed), ((0, 0, 0), (9, 9, 9)), "background")
    path = write_labelme(tmp_path, "a", [square | {"label": drawn}])
    for rules, area in (
        (ImportRules(), 1),
        (ImportRules(class_map={typed: "background"}), 0),
        (ImportRules(ignore=(typed,)), 255),
    ):
        state = ImportState(tmp_path, classes, rules)
        reading = read_item(path, state)
        assert reading is not None
        assert (reading.label_map[1, 1], dict(state.unknown)) == (area, {})
        assert state.names[unicodedata.normalize("NFC", "Größe")] == 1
