"""``cytoseg study robustness`` on the tiny run."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

COMMAND = ("study", "robustness", "tiny.yaml", "--quick")


def test_severity_0_is_what_evaluate_says(
    home: Path, cytoseg: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytoseg.workflows.robustness.QUICK", ("commonest",))  # a forest would take most of the time
    result = cytoseg(*COMMAND, "--severities", "0,5", "--corruptions", "defocus")
    assert result.exit_code == 0, result.output
    folder = home / "runs" / "tiny"
    evaluated = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    record = json.loads((folder / "robustness" / "robustness.json").read_text())
    clean = {method["key"]: method["clean"] for method in record["methods"]}
    assert list(clean) == ["ensemble", "commonest"]
    for method in (method for method in evaluated["methods"] if method["key"] in clean):
        run = json.loads((folder / "robustness" / "runs" / f"{method['key']}-clean.json").read_text())
        assert np.sum(run["counts"], axis=0).tolist() == method["confusion"]
        for score, one in zip(clean[method["key"]], method["classes"], strict=True):
            assert list(score.values()) == [one["iou"], one["iou_low"], one["iou_high"]]
    blurred = json.loads((folder / "robustness" / "runs" / "ensemble-defocus-5.json").read_text())
    assert np.sum(blurred["counts"], axis=0).tolist() != evaluated["methods"][0]["confusion"]
    assert "Smallest objects: nucleus, median diameter" in result.stdout
    assert "Safe means that every class keeps at least 90 %" in " ".join(result.stdout.split())


@pytest.mark.parametrize("severities", ["", "6", "1,9", "-1", "1.5", "1,,2", "mild"])
def test_severities_outside_0_to_5_are_refused(home: Path, cytoseg: Callable[..., Result], severities: str) -> None:
    result = cytoseg(*COMMAND, f"--severities={severities}")
    assert result.exit_code == 2
    assert result.stderr == (
        f"cytoseg: --severities {severities!r}: write whole numbers from 0 to 5 separated by commas, such as 1,3,5.\n"
    )
    assert not (home / "runs" / "tiny" / "robustness").exists()


def test_a_severity_of_many_digits_is_refused_in_one_line(home: Path, cytoseg: Callable[..., Result]) -> None:
    result = cytoseg(*COMMAND, "--severities", "9" * 5000)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.endswith("write whole numbers from 0 to 5 separated by commas, such as 1,3,5.\n")


def test_an_unknown_corruption_is_refused_with_the_nearest_name(home: Path, cytoseg: Callable[..., Result]) -> None:
    result = cytoseg(*COMMAND, "--corruptions", "defocuss,rain")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "cytoseg: --corruptions: unknown 'defocuss' (did you mean 'defocus'?), 'rain'. Known are defocus, gaussian-"
    )


def test_crops_without_an_object_are_refused(home: Path, cytoseg: Callable[..., Result]) -> None:
    result = cytoseg(*COMMAND, "objects.classes=[]")
    assert result.exit_code == 2
    assert "no train crop shows an object" in result.stderr


def test_no_bundle_and_no_test_crops_are_refused(home: Path, cytoseg: Callable[..., Result]) -> None:
    nowhere = cytoseg(*COMMAND, "labels.test_slides=[nowhere]")
    assert nowhere.exit_code == 2
    assert len(nowhere.stderr.splitlines()) == 1
    (home / "runs" / "tiny" / "interpreter").rename(home / "gone")
    result = cytoseg(*COMMAND)
    assert result.exit_code == 2
    assert "train-interpreter" in result.stderr


def test_a_bundle_trained_on_the_test_crops_is_refused(home: Path, cytoseg: Callable[..., Result]) -> None:
    result = cytoseg(*COMMAND, "labels.test_slides=['*_02']")
    assert result.exit_code == 2
    assert "study robustness: the bundle was trained on" in result.stderr
