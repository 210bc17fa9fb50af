"""Reading generated pairs; making them is tested in end_to_end/test_make_pairs.py."""

import os
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from cytoseg.classes import ClassList
from cytoseg.diffusion.sample_folder import SampleOrigin, sample_path
from cytoseg.errors import CytosegError, LabelError
from cytoseg.interpreter.bundle import EnsemblePredictor
from cytoseg.labels.index import LabelIndex, write_index
from cytoseg.workflows import generated_pairs
from cytoseg.workflows.drawn_samples import DrawnSamples
from cytoseg.workflows.generated_pairs import SampleLabels, generated_crops, labelling_of

CLASSES = ClassList(("background", "cell"), ((0, 0, 0), (9, 9, 9)), fill="background")


def test_no_pairs_are_read_where_none_are_asked_for(tmp_path: Path) -> None:
    assert generated_crops(tmp_path, 0, CLASSES) == ()
    with pytest.raises(LabelError, match="holds 0 generated pairs"):
        generated_crops(tmp_path, 1, CLASSES)


@pytest.mark.posix
@pytest.mark.parametrize("content", [b"", b"null", None])
def test_a_damaged_list_of_pairs_names_the_command_that_makes_them(tmp_path: Path, content: bytes | None) -> None:
    index = tmp_path / "made" / "labels" / "index.json"
    index.parent.mkdir(parents=True)
    if content is None:
        os.mkfifo(index)
    else:
        index.write_bytes(content)
    with pytest.raises(LabelError, match=r"index\.json: the generated pairs cannot be read\. .+ `cytoseg make-pairs`"):
        generated_crops(tmp_path, 1, CLASSES)


def test_pairs_of_other_classes_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "labels"
    folder.mkdir(parents=True)
    write_index(LabelIndex(folder, ("background", "nucleus"), ()))
    says = (
        r"labels: the pairs were made with the classes \(background, nucleus\), the recipe has \(background, cell\)\. "
        "Run `cytoseg make-pairs` again"
    )
    with pytest.raises(LabelError, match=says):
        generated_crops(tmp_path, 1, CLASSES)


class _AllBackground:
    """Takes three samples of 32 px at once, and remembers how many it got."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def tiles_at_once(self, side_px: int) -> int:
        assert side_px == 32
        return 3

    def __call__(self, tiles: np.ndarray) -> dict[str, np.ndarray]:
        self.counts.append(len(tiles))
        probabilities = np.zeros((len(tiles), 2, 32, 32), np.float32)
        probabilities[:, 0] = 1.0
        return {"probabilities": probabilities, "disagreement": np.zeros((len(tiles), 32, 32), np.float32)}


@pytest.mark.parametrize("kind", ["damaged", "cut", "another size", "colours", "a folder"])
def test_a_damaged_label_map_of_a_sample_is_one_line(tmp_path: Path, kind: str) -> None:
    drawn = DrawnSamples(tmp_path, SampleOrigin("ddim", 5, 0, 32, 100, "abc"), (0,), {})
    labels, path = SampleLabels(tmp_path / "made", drawn, {}, 0.1), tmp_path / "made" / "maps" / "00000.png"
    path.parent.mkdir(parents=True)
    Image.new("L", (32, 32), 1).save(path)
    np.testing.assert_array_equal(labels.label_map(0), np.ones((32, 32)))
    match kind:
        case "damaged":
            path.write_bytes(b"\x89PNG\r\n\x1a\nno")
        case "cut":
            path.write_bytes(path.read_bytes()[:60])
        case "another size":
            Image.new("L", (31, 32)).save(path)
        case "colours":
            Image.new("RGB", (32, 32)).save(path)
        case _:
            path.unlink()
            path.mkdir()
    with pytest.raises(CytosegError, match=r"00000\.png: damaged \(.+\)\. Remove it and run the command again\."):
        labels.label_map(0)


def test_only_as_many_samples_are_labelled_together_as_fit_in_memory(tmp_path: Path) -> None:
    for number in range(7):
        Image.new("RGB", (32, 32), (240, 240, 240)).save(sample_path(tmp_path, number))
    drawn = DrawnSamples(tmp_path, SampleOrigin("ddim", 5, 0, 32, 100, "abc"), tuple(range(7)), {})
    predictor = _AllBackground()
    pairs = SampleLabels(tmp_path / "made", drawn, {}, 0.1).label(cast(EnsemblePredictor, predictor))
    assert predictor.counts == [3, 3, 1]
    assert [(pair.number, pair.uncertainty, pair.tissue) for pair in pairs] == [(n, 0.0, 0.0) for n in range(7)]


@pytest.mark.parametrize("grey", [False, True])
def test_samples_are_read_in_colour_and_damaged_ones_are_named(tmp_path: Path, grey: bool) -> None:
    drawn = DrawnSamples(tmp_path, SampleOrigin("ddim", 5, 0, 32, 100, "abc"), (0,), {})
    labels, path = SampleLabels(tmp_path / "made", drawn, {}, 0.1), sample_path(tmp_path, 0)
    colour = (90, 90, 90) if grey else (10, 20, 30)
    Image.new("L" if grey else "RGB", (32, 32), 90 if grey else colour).save(path)
    assert labels.picture(0).shape == (32, 32, 3)
    assert labels.picture(0)[5, 6].tolist() == list(colour)
    (tmp_path / "made" / "maps").mkdir(parents=True)
    Image.fromarray(np.full((32, 32), 1, np.uint8)).save(tmp_path / "made" / "maps" / "00000.png")
    assert labels.label_map(0).tolist() == [[1] * 32] * 32
    for damaged, read in ((path, labels.picture), (tmp_path / "made" / "maps" / "00000.png", labels.label_map)):
        content = bytearray(damaged.read_bytes())
        content[content.index(b"IDAT") + 5] ^= 255  # its checksum no longer fits
        damaged.write_bytes(content)
        with pytest.raises(CytosegError, match=rf"{damaged.name}: damaged .* Remove it and run the command again"):
            read(0)


def test_samples_are_labelled_again_when_the_members_vote_by_another_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (32, 32), (240, 240, 240)).save(sample_path(tmp_path, 0))
    drawn = DrawnSamples(tmp_path, SampleOrigin("ddim", 5, 0, 32, 100, "abc"), (0,), {})
    predictor = _AllBackground()
    for vote, precision in (("soft", "no"), ("soft", "no"), ("hard", "no"), ("hard", "bf16")):
        state = {"sha256": {"ensemble": "a"}, "features": {}, "vote": vote, "precision": precision, "recipe": {}}
        monkeypatch.setattr(generated_pairs, "bundle_state", lambda _folder, state=state: state)
        labels = SampleLabels(tmp_path / "made", drawn, labelling_of(tmp_path), 0.1)
        labels.label(cast(EnsemblePredictor, predictor))
    assert predictor.counts == [1, 1, 1]
