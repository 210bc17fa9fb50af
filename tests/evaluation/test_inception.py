from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cytoseg.errors import CheckpointError
from cytoseg.evaluation.generative_features import feature_network
from cytoseg.evaluation.generative_scores import inception_score
from cytoseg.evaluation.inception import Inception, _network


def test_the_score_of_a_classifier_lies_between_one_and_its_classes() -> None:
    assert inception_score(np.eye(4)) == pytest.approx(4)  # sure, and each class once
    assert inception_score(np.full((7, 4), 0.25)) == pytest.approx(1)  # it cannot tell
    assert inception_score(np.eye(4)[[0, 0, 0]]) == pytest.approx(1)  # sure, and all alike
    two = np.array([[0.75, 0.25], [0.25, 0.75]])
    expected = np.exp(0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    assert inception_score(two) == pytest.approx(expected)


def test_large_sets_are_scored_in_parts() -> None:
    halves = np.repeat(np.eye(2), 500, axis=0)  # each part holds one class only
    assert inception_score(halves) == pytest.approx(1)
    assert inception_score(halves[:998]) == pytest.approx(2, rel=1e-4)


class Code:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.touch, (Path("was_run"),)  # type: ignore[return-value] # a path for a text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (Code(), "not a plain file of tensors; nothing in it was run"),
        ([1, 2], "is not a dictionary of tensors"),
        ({"fc.weight": torch.zeros(3)}, r"is not Inception with 1008 classes"),
    ],
)
def test_other_files_are_refused_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, "weights.pth")
    with pytest.raises(CheckpointError, match=rf"^weights\.pth: {said}.*pt_inception-2015") as caught:
        Inception(Path("weights.pth"))
    assert "\n" not in str(caught.value)
    assert not Path("was_run").exists()


def test_a_missing_or_large_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pth: there is no such file"):
        Inception(tmp_path / "none.pth")
    monkeypatch.setenv("CYTOSEG_MAX_WEIGHTS_MB", "1")
    (tmp_path / "large.pth").write_bytes(bytes(1_100_000))
    with pytest.raises(CheckpointError, match=r"large\.pth: 1 MB of weights\. .*set CYTOSEG_MAX_WEIGHTS_MB"):
        Inception(tmp_path / "large.pth")


@pytest.mark.slow
def test_features_and_classes_are_those_of_the_whole_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = _network()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    found = feature_network("inception", weights=tmp_path / "weights.pth")
    (whole, spatial), classes = found.describe(pictures)
    assert found.name == "inception with other weights than published"
    assert not found.standardises
    assert classes is not None
    assert (whole.shape, spatial.shape, classes.shape) == ((2, 2048), (2, 2023), (2, 1008))
    np.testing.assert_allclose(classes.sum(1), 1, rtol=1e-5)
    large = torch.nn.functional.interpolate(pictures, (299, 299), mode="bilinear", align_corners=False)
    network.eval()
    with torch.inference_mode():  # the whole network, with the bias taken off
        logits = network(large) - network.fc.bias
    np.testing.assert_allclose(classes, logits.softmax(1).numpy(), rtol=1e-3, atol=1e-7)
