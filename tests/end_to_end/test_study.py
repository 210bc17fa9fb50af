"""``cytoseg study`` on the tiny run."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from cytoseg.interpreter.unet_baseline import fit_scratch

KEYS = ("forest", "imagenet", "imagenet-joined", "imagenet-unet", "mlps", "scratch")


@pytest.mark.slow
def test_each_number_of_crops_is_trained_on_and_kept(
    home: Path, cytoseg: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures: list[int] = []

    def counted(crops: list[object], *arguments: object, **keywords: object) -> object:
        pictures.append(len(crops))
        return fit_scratch(crops, *arguments, **(keywords | {"steps": 2}))  # type: ignore[arg-type] # passed on as they come

    monkeypatch.setattr("cytoseg.workflows.compared_methods.IMAGENET_STEPS", 2)
    monkeypatch.setattr("cytoseg.workflows.compared_methods.fit_scratch", counted)
    result = cytoseg("study", "label-efficiency", "tiny.yaml", "--draws", "1")
    assert result.exit_code == 0, result.output
    assert pictures == [1, 2]
    folder = home / "runs" / "tiny" / "label_efficiency"
    names = [f"{key}-{n}-0.json" for key in KEYS for n in (1, 2)]
    assert sorted(p.name for p in (folder / "runs").iterdir()) == sorted(names)
    assert result.stdout.count("no estimate of the gain") + result.stdout.count("No estimate of the gain") == 1
    assert re.search(r"\| 2 \| 0\.\d{3} \|", result.stdout)
    assert (folder / "label_efficiency.png").exists()

    again = cytoseg("study", "label-efficiency", "tiny.yaml", "--draws", "1", "--quick")
    assert again.exit_code == 0, again.output
    assert "U-Net" not in again.stdout
    assert len(pictures) == 2


@pytest.mark.slow
def test_the_decoder_is_set_beside_itself_from_random_weights(home: Path, cytoseg: Callable[..., Result]) -> None:
    tuned = ("interpreter.kind=decoder", "decoder.steps=2", "decoder.size_px=32", "decoder.batch=1")
    scored = cytoseg("study", "label-efficiency", "tiny.yaml", "--draws", "1", "--counts", "2", "--quick", *tuned)
    assert scored.exit_code == 0, scored.output
    runs = home / "runs" / "tiny" / "label_efficiency" / "runs"
    assert {p.name for p in runs.iterdir()} == {
        f"{key}-2-0.json" for key in ("forest", "decoder", "imagenet", "imagenet-joined")
    }


@pytest.mark.parametrize("counts", ["", "0", "1,,2", "1, 2", "-1", "one"])
def test_counts_that_are_none_are_refused(home: Path, cytoseg: Callable[..., Result], counts: str) -> None:
    result = cytoseg("study", "label-efficiency", "tiny.yaml", "--counts", counts)
    assert result.exit_code == 2
    assert "write numbers of crops separated by commas, such as 1,5,30." in result.stderr


def test_crops_of_one_class_are_refused(home: Path, cytoseg: Callable[..., Result]) -> None:
    index = home / "runs" / "tiny" / "labels" / "index.json"
    content = json.loads(index.read_text())
    for crop in content["crops"]:
        crop["pixels"] = {name: (4096 if name == "background" else 0) for name in crop["pixels"]}
    index.write_text(json.dumps(content))
    result = cytoseg("study", "label-efficiency", "tiny.yaml")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "cytoseg: study label-efficiency: no train crop shows two classes. Annotate more."
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
@pytest.mark.parametrize("kind", ["mlps", pytest.param("decoder", marks=pytest.mark.slow)])
def test_a_ceiling_too_low_is_refused_and_says_what_can_be_typed(
    home: Path, cytoseg: Callable[..., Result], kind: str
) -> None:
    setting = (f"interpreter.kind={kind}", "decoder.steps=2", "decoder.size_px=32", "decoder.batch=1")
    command = ("study", "label-efficiency", "tiny.yaml", "--draws", "1", "--counts", "2", "--quick", *setting)
    refused = cytoseg(*command, "features.memory_gb=0.001")
    assert refused.exit_code == 2, refused.output
    told = re.search(
        r"features\.memory_gb: 0\.001 is too little: .* Use (features\.memory_gb=[\d.]+), or ", refused.stderr
    )
    assert told
    assert cytoseg(*command, told[1]).exit_code == 0
