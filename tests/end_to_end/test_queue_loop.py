"""The queue's loop closed on real crops whose truth is known: learn, choose, learn more, measure."""

from pathlib import Path

import numpy as np
import pytest

from cytoseg.recipe import load_recipe
from tests.benchmarks.queue_gain import ARMS, MORE, START, close_loop, prepare
from tests.end_to_end.conftest import SOURCES, Command


@pytest.mark.slow
@pytest.mark.data
def test_the_crops_that_the_queue_chooses_make_the_model_better(
    cytoseg: Command, cytoseg_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = SOURCES / "data" / "checkpoints" / "lbc-base"
    Path("run/ddpm").mkdir(parents=True)
    Path("run/ddpm/checkpoint-000132000").symlink_to(base)
    quick = ["interpreter.members=4", "interpreter.steps=400", "interpreter.pixels_per_crop=1000"]
    overrides = ["folder=run", "training.device=cpu", *quick]
    for part, more in (("train", ["--area", "outline"]), ("test", [])):
        source = str(cytoseg_data / "lbc" / part)
        told = cytoseg("label-import", source, "--recipe", "lbc", "--slide-regex", r"^(\d+)_", *more, *overrides)
        assert told.exit_code == 0, told.output
    ground = prepare(load_recipe("lbc", overrides))
    assert (len(ground.train), len(ground.test)) == (30, 30)
    scores = close_loop(ground, 0, draws=1)
    assert tuple(scores) == ARMS
    assert (START, MORE) == (5, 5)
    nucleus = {arm: float(np.mean([found[-1] for found in scores[arm]])) for arm in ARMS}
    assert nucleus["queue"] > nucleus["start"] + 0.01
    assert nucleus["queue"] > nucleus["random"] - 0.1  # one draw at random spreads by half of this
