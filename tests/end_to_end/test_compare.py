"""``cytoseg compare`` against the scores of ``evaluate``."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

METHODS = ("commonest", "thresholds", "forest", "scratch", "imagenet-unet", "filters", "random", "ddpm", "joined")
METHODS += ("imagenet", "imagenet-joined")


pytestmark = pytest.mark.usefixtures("short_networks")


@pytest.mark.slow
def test_the_same_trainings_give_the_scores_of_evaluate(
    home: Path, cytoseg: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = cytoseg("compare", "tiny.yaml", "--seeds", "1")
    assert result.exit_code == 0, result.output
    folder = home / "runs" / "tiny" / "compare"
    runs = {p.stem: json.loads(p.read_text()) for p in (folder / "runs").iterdir()}
    once = {"commonest-0", "thresholds-0"}
    assert set(runs) == once | {f"{key}-0" for key in METHODS[2:]}

    evaluation = json.loads((home / "runs" / "tiny" / "evaluation" / "evaluation.json").read_text())
    evaluated = {method["key"]: method["confusion"] for method in evaluation["methods"]}
    for ours, theirs in (("ddpm", "ensemble"), ("forest", "forest"), ("commonest", "commonest")):
        assert np.sum(runs[f"{ours}-0"]["counts"], axis=0).tolist() == evaluated[theirs], ours
    # Each method is another: none is a copy of its neighbour.
    found = [json.dumps(runs[f"{key}-0"]["counts"]) for key in METHODS]
    assert len(set(found)) == len(METHODS)

    table = (folder / "compare.md").read_text()
    assert table.count("\n| ") == len(METHODS)
    assert "| Random forest, 72 filters |" in result.stdout
    assert (folder / "compare.png").exists()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    for name in ("commonest_class", "fit_thresholds", "fit_forest", "fit_scratch", "train_ensemble"):
        monkeypatch.setattr(f"cytoseg.workflows.compared_methods.{name}", never)
    again = cytoseg("compare", "tiny.yaml", "--seeds", "1")
    assert again.exit_code == 0, again.output
    assert (folder / "compare.md").read_text() == table
    mode, rate = "interpreter.mode=reference", "interpreter.rate=2e-3"
    for change in ("interpreter.vote=hard", mode, rate, "features.noise_seed=5"):
        with pytest.raises(AssertionError, match="trained again"):
            cytoseg("compare", "tiny.yaml", "--seeds", "1", change)


def test_quick_trains_once_and_leaves_out_what_takes_long(home: Path, cytoseg: Callable[..., Result]) -> None:
    result = cytoseg("compare", "tiny.yaml", "--quick", "features.extractors=[ddpm,filters]")
    assert result.exit_code == 0, result.output
    folder = home / "runs" / "tiny" / "compare"
    kept = {"commonest-0", "thresholds-0", "forest-0", "scratch-0", "joined-0"}
    assert {path.stem for path in (folder / "runs").iterdir()} == kept
    table = (folder / "compare.md").read_text()
    assert table.count("\n| ") == len(kept)
    assert "| U-Net from scratch, 300 steps |" in table
