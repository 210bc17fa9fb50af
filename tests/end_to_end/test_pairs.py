"""Two commands at once on one run: nothing is lost, and the refused one names the other."""

import itertools
import json
import os
import random
import re
import shutil
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import Result

from cytoseg.evaluation.run_folder import read_provenance
from cytoseg.interpreter.bundle import bundle_hashes
from cytoseg.labels.import_labels import import_labels
from cytoseg.labels.import_settings import ImportRules
from cytoseg.labels.index import LabelledCrop, load_index
from cytoseg.recipe import load_recipe
from tests.end_to_end.cases import CASES

pytestmark = pytest.mark.posix
RUN = Path("runs", "tiny")
BUSY = re.compile("is writing it|has imported labels while this command was reading them")
THERE = re.compile("already exists")
"""What the later of two commands says that write a new file or folder of one name."""
LINES = {
    "import": "label-import made/labelled --recipe tiny.yaml",
    "train": "train-interpreter tiny.yaml interpreter.steps=30",
    "evaluate": "evaluate tiny.yaml --no-baseline features.scale=1",
    "predict": "predict tiny.yaml made/slides/made_2_02.ome.tif",
    "queue": "queue tiny.yaml --n 1 labels.test_slides=[nothing]",
    "label-crops": "label-crops tiny.yaml --n 3",
}


def _begin(cytoseg: Callable[..., Result], line: str, said: Path) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads
        process = os.fork()
    if process == 0:
        try:
            result = cytoseg(*line.split())
            said.write_text(json.dumps([result.exit_code, result.output]))
        except BaseException:
            said.write_text(json.dumps([1, traceback.format_exc()]))
        finally:
            os._exit(0)
    return process


def _at_once(cytoseg: Callable[..., Result], home: Path, first: str, second: str) -> None:
    crops = {crop.crop for crop in load_index(RUN / "labels").crops}
    recorded = len(_commands())
    said = [home.with_name(f"said_{number}") for number in range(2)]
    one = _begin(cytoseg, LINES[first], said[0])
    time.sleep(random.Random(f"{first} {second}").uniform(0, 1))
    for process in (one, _begin(cytoseg, LINES[second], said[1])):
        os.waitpid(process, 0)
    for path in said:
        status, text = json.loads(path.read_text())
        assert status == 0 or (status == 2 and "(process " in text and BUSY.search(text)), text
    assert {crop.crop for crop in load_index(RUN / "labels").crops} >= crops
    assert len(_commands()) == recorded + 2
    assert bundle_hashes(RUN / "interpreter" / "bundle")
    assert json.loads((RUN / "evaluation" / "evaluation.json").read_text())["methods"]
    assert [path for path in home.rglob(".*") if path.suffix != ".part"] == []


def _commands() -> tuple[object, ...]:
    provenance = read_provenance(RUN)
    assert provenance is not None
    return tuple(provenance.commands)


def test_of_an_import_and_a_queue_at_once_nothing_is_lost(home: Path, cytoseg: Callable[..., Result]) -> None:
    _at_once(cytoseg, home, "import", "queue")


READERS = (
    "train-interpreter tiny.yaml interpreter.steps=5",
    "evaluate tiny.yaml --no-baseline",
    *(
        pytest.param(line, marks=pytest.mark.slow)
        for line in (
            "train-interpreter tiny.yaml interpreter.kind=decoder decoder.steps=2",
            "compare tiny.yaml --quick interpreter.steps=5",
            "study label-efficiency tiny.yaml --quick --draws 1 --counts 1 interpreter.steps=5",
            "study robustness tiny.yaml --quick --severities 1 --corruptions defocus",
            "study architectures tiny.yaml --variants base --seeds 1 --samples 8 training.crops=8 training.batch=4",
            'select-features tiny.yaml labels.test_slides=["*_00"]',
        )
    ),
)
"""Commands that read label maps."""


@pytest.mark.usefixtures("short_networks")
@pytest.mark.parametrize("line", READERS)
def test_a_command_whose_labels_are_imported_again_meanwhile_names_the_import(
    line: str, home: Path, cytoseg: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, started = LabelledCrop.label_map, iter([True])

    def import_first(crop: LabelledCrop) -> NDArray[np.uint8]:
        if next(started, False):
            import_labels(home / "changed", home / RUN / "labels", classes=classes, rules=ImportRules())
        return read(crop)

    classes = load_recipe("tiny.yaml").class_list()
    shutil.copytree("made/labelled", "changed")
    for path in Path("changed").glob("*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "shapes": content["shapes"][:1]}))
    monkeypatch.setattr("sys.argv", ["cytoseg", "label-import"])
    monkeypatch.setattr(LabelledCrop, "label_map", import_first)
    result = cytoseg(*line.split())
    who = (
        rf"cytoseg label-import \(process {os.getpid()} on .+ UTC\) has imported labels while this command was reading"
    )
    assert result.exit_code == 2, result.output
    assert re.fullmatch(rf"cytoseg: runs/tiny/labels: {who}.+ Run this command again\.\n", result.stderr), result.stderr
    assert [path for path in home.rglob(".*") if path.suffix != ".part"] == []


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), list(itertools.combinations_with_replacement(LINES, 2)))
def test_of_two_commands_at_once_nothing_is_lost(
    first: str, second: str, home: Path, cytoseg: Callable[..., Result]
) -> None:
    _at_once(cytoseg, home, first, second)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [
        *((name, name) for name in ("report", "export", "sample", "anomaly", "study", "make-pairs", "edit", "convert")),
        *(("make-pairs", "sample"), ("sample", "score-samples"), ("export", "train-ddpm"), ("report", "evaluate")),
        *(("label-export", "label-import"), ("study", "label-import")),
    ],
)
def test_two_commands_at_once_both_end_well_or_one_is_refused(
    first: str, second: str, case_home: Path, cytoseg: Callable[..., Result]
) -> None:
    for line in (*CASES[first].before, *CASES[second].before):
        assert cytoseg(*line.split()).exit_code == 0
    said = [case_home.with_name(f"said_{number}") for number in range(2)]
    processes = [_begin(cytoseg, CASES[name].line, path) for name, path in zip((first, second), said, strict=True)]
    for process in processes:
        os.waitpid(process, 0)
    ended = [json.loads(path.read_text()) for path in said]
    for status, text in ended:
        assert status == 0 or (status == 2 and (THERE.search(text) or ("(process " in text and BUSY.search(text)))), (
            text
        )
    assert 0 in [status for status, _ in ended]
    for name, (status, _) in zip((first, second), ended, strict=True):
        assert status or CASES[name].made()
    assert [path for path in case_home.rglob(".*") if path.suffix != ".part"] == []
