import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import Result

from cytoseg.errors import LabelError
from cytoseg.labels.index import load_index
from cytoseg.recipe import load_recipe
from cytoseg.workflows.source_overlap import lies_in, refuse_own_crops, refuse_sources_of_own

Picture = NDArray[np.uint8]
Import = Callable[..., None]
FIELD = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


@pytest.fixture
def imported(cytoseg: Callable[..., Result]) -> Import:
    """Import an image as a crop of a run; beside it may stand its slide and region."""

    def write(run: str, name: str, picture: Picture, origin: object = None) -> None:
        for folder, pixels in (("images", picture), ("masks", np.eye(*picture.shape[:2], dtype=np.uint8))):
            Path(run, folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(Path(run, folder, f"{name}.png"))
        if origin is not None:
            Path(run, "images", f"{name}.crop.json").write_text(json.dumps(origin))
        result = cytoseg("label-import", run, "--recipe", "tiny.yaml", f"labels.folder={run}/labels")
        assert result.exit_code == 0, result.output

    return write


def _refuse() -> None:
    recipe = load_recipe("tiny.yaml", ["labels.folder=own/labels"])
    refuse_own_crops(load_index(Path("source/labels")), recipe, "here")


@pytest.mark.parametrize(
    ("own", "source"),
    [
        (FIELD, FIELD),
        (FIELD[7:39, 11:60], FIELD),
        (FIELD, FIELD[20:, 40:]),
    ],
)
def test_the_same_picture_or_a_part_of_it_is_refused_by_whatever_name(
    own: Picture, source: Picture, imported: Import
) -> None:
    imported("own", "a", own)
    imported("source", "b", source)
    with pytest.raises(
        LabelError, match=r"^here: b is also a labelled crop of this run, or part of one \(a\)\. Remove "
    ):
        _refuse()


def _write_slide(name: str, picture: Picture) -> None:
    Image.fromarray(picture).save(f"slides/{name}.png")


def test_another_region_of_a_labelled_slide_is_refused(imported: Import) -> None:
    _write_slide("field", FIELD)
    imported("own", "a", FIELD[:32, :32], {"slide": "field", "region": [0, 0, 32, 32]})
    imported("source", "b", FIELD[32:, 64:], {"slide": "field", "region": [64, 32, 32, 32]})
    with pytest.raises(LabelError, match=r"^here: b is from slide 'field', which has labelled crops in this run\."):
        _refuse()


def test_a_whole_slide_in_another_format_is_refused(imported: Import) -> None:
    smooth = np.kron(FIELD[::16, ::16], np.ones((16, 16, 1), np.uint8))
    _write_slide("field", smooth)
    imported("own", "a", FIELD[:32, :32], {"slide": "field", "region": [0, 0, 32, 32]})
    imported("source", "field", np.clip(smooth.astype(int) + 1, 0, 255).astype(np.uint8))  # as a JPEG would
    with pytest.raises(LabelError, match="is from slide 'field'"):
        _refuse()


def test_slides_of_one_name_and_other_content_are_reported_and_taken(
    imported: Import, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_slide("field", FIELD)
    imported("own", "a", FIELD[:32, :32], {"slide": "field", "region": [0, 0, 32, 32]})
    imported("source", "b", 255 - FIELD[32:, 64:], {"slide": "field", "region": [64, 32, 32, 32]})
    capsys.readouterr()
    _refuse()
    assert "slides of this run have the same names (field)" in capsys.readouterr().out
    Path("slides/field.png").write_bytes(b"damaged")
    _refuse()
    Path("slides/field.png").unlink()
    _refuse()


def test_labels_that_came_after_the_training_are_compared_too(imported: Import, cytoseg: Callable[..., Result]) -> None:
    backbone = "diffusion={backbone: pretrained, dim: 8, dim_mults: [1, 1, 1]}"
    given = ("tiny.yaml", backbone, "labels.folder=own/labels", "features.extractors=[filters]")
    for name in ("dark_a", "dark_b"):
        imported("own", name, FIELD if name == "dark_a" else FIELD[::-1])
    imported("source", "other", FIELD[10:50, 10:50])
    result = cytoseg("train-interpreter", *given, "labels.sources=[{folder: source/labels}]")
    assert result.exit_code == 2
    assert "labels.sources[0]: other is also a labelled crop of this run" in result.stderr
    assert result.stderr.count("\n") == 1
    refuse_sources_of_own(load_recipe("tiny.yaml", [*given[1:], "labels.sources=[{folder: gone/labels}]"]))


def test_a_part_lies_in_its_whole_where_something_is_to_be_seen() -> None:
    assert lies_in(FIELD[1:40, 2:50], FIELD)
    assert lies_in(FIELD[:, :95], FIELD)
    assert not lies_in(FIELD, FIELD[1:])
    assert not lies_in(np.zeros((8, 20, 3), np.uint8), np.zeros((64, 96, 3), np.uint8))
    assert not lies_in(FIELD[:8, :15], FIELD)  # too narrow to be told
    changed = FIELD[1:40, 2:50].copy()
    changed[0, 0] ^= 255
    assert not lies_in(changed, FIELD)
