"""Which crops the feature check probes; the check itself is tested in commands/test_doctor.py."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cytoseg.labels.split import Split
from cytoseg.recipe import load_recipe
from cytoseg.workflows import feature_check


def _crop(name: str, *, made: bool) -> Any:
    ids = np.zeros((16, 16), np.uint8)
    ids[:8] = 1
    return SimpleNamespace(
        crop=name, slide=name, made="drawn" if made else None, pixels={"a": 128, "b": 128}, label_map=lambda: ids
    )


def test_images_that_a_diffusion_model_drew_are_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    train = tuple(_crop(name, made=name == "drawn") for name in ("one", "drawn", "two"))
    monkeypatch.setattr(feature_check, "has_index", lambda _folder: True)
    monkeypatch.setattr(feature_check, "split_of", lambda _recipe: Split(train, ()))
    pixels, why_not = feature_check._labelled(load_recipe("quickstart"))
    assert pixels is not None
    assert ([crop.crop for crop in pixels.crops], pixels.unit, why_not) == (["one", "two"], "slides", "")
    monkeypatch.setattr(feature_check, "split_of", lambda _recipe: Split(train[1:2], ()))
    nothing, why_not = feature_check._labelled(load_recipe("quickstart"))
    assert nothing is None
    assert "no labelled pixel" in why_not
