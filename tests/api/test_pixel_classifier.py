"""The pixel classifier and scikit-learn's conventions."""

import contextlib
import copy
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score

import cytoseg as cs
from cytoseg.checkpoints import save_checkpoint
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.diffusion.architecture import Architecture, tap_names
from cytoseg.diffusion.state import TrainingRecord
from cytoseg.diffusion.unet import build_unet
from cytoseg.errors import ArrayError, CheckpointError, LabelError, RecipeError
from tests.api.conftest import made_cell

Cells = tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]
QUICK = {"members": 2, "steps": 10, "extractors": ("filters",), "device": "cpu"}


def test_it_finds_the_cell_that_it_was_taught(fitted: cs.PixelClassifier) -> None:
    image, label_map = made_cell(7)
    (found,) = fitted.predict([image])
    labelled = label_map != cs.IGNORE
    assert (found == label_map)[labelled].mean() > 0.99
    assert fitted.score([image], [label_map]) == cs.evaluate([found], [label_map], ["glass", "cell"]).mean_iou.value


def test_nuclei_wider_than_the_backbone_knows_are_said_with_the_scale_that_suits_them() -> None:
    rows, columns = np.mgrid[:96, :96]
    label_map = (np.hypot(rows - 48, columns - 48) < 15).astype(np.uint8)
    image = np.where(label_map[..., None], np.uint8(90), np.uint8(230)).repeat(3, axis=2)
    some = {"members": 2, "steps": 1, "device": "cpu"}
    said = r"nucleus are about 30 px wide .* Try scale=0\.5, which makes them 15 px wide for it\.$"
    with pytest.warns(UserWarning, match=said):
        cs.PixelClassifier(["glass", "nucleus"], **some).fit([image], [label_map])
    cs.PixelClassifier(["glass", "nucleus"], scale=0.5, **some).fit([image], [label_map])
    cs.PixelClassifier(["glass", "nucleus"], extractors=["filters"], **some).fit([image], [label_map])


def test_probabilities_have_the_classes_last(fitted: cs.PixelClassifier) -> None:
    image, _ = made_cell(7)
    (probabilities,) = fitted.predict_proba([image])
    assert probabilities.shape == (48, 48, 2)
    np.testing.assert_array_equal(probabilities.argmax(-1), fitted.predict([image])[0])
    assert fitted.classes_.tolist() == [0, 1]


def test_the_same_seed_gives_the_same_classifier(cells: Cells) -> None:
    images, label_maps = cells
    first, again, other = (
        cs.PixelClassifier(**QUICK, random_state=seed).fit(images, label_maps).predict_proba(images)[0]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_it_is_cloned_and_its_parameters_are_set() -> None:
    classifier = cs.PixelClassifier(["a", "b"], steps=7)
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    assert copy.set_params(steps=9, mpp=0.5).get_params() == {**classifier.get_params(), "steps": 9, "mpp": 0.5}
    assert classifier.steps == 7
    with pytest.raises(ValueError, match="Invalid parameter 'depth'"):
        copy.set_params(depth=3)


def _by_joblib(classifier: cs.PixelClassifier, folder: Path) -> cs.PixelClassifier:
    joblib.dump(classifier, folder / "classifier.joblib")
    return joblib.load(folder / "classifier.joblib")


@pytest.mark.parametrize(
    "copied",
    [
        lambda classifier, _folder: pickle.loads(pickle.dumps(classifier)),
        lambda classifier, _folder: copy.deepcopy(classifier),
        _by_joblib,
    ],
)
def test_a_copy_predicts_the_same(
    copied: Callable[..., cs.PixelClassifier], fitted: cs.PixelClassifier, cells: Cells, tmp_path: Path
) -> None:
    found = copied(fitted, tmp_path)
    np.testing.assert_array_equal(found.predict_proba(cells[0])[0], fitted.predict_proba(cells[0])[0])
    unfitted = clone(fitted)
    assert copied(unfitted, tmp_path).get_params() == unfitted.get_params() == fitted.get_params()
    assert not hasattr(unfitted, "bundle_")


def test_it_is_shown_with_what_is_not_the_default(fitted: cs.PixelClassifier) -> None:
    assert repr(cs.PixelClassifier()) == "PixelClassifier()"
    assert repr(fitted) == "PixelClassifier(classes=['glass', 'cell'], device='cpu', members=2, steps=30)"


def test_many_threads_predict_with_one_classifier(fitted: cs.PixelClassifier, cells: Cells) -> None:
    """The features of one thread ended up in another, or were missing."""
    alone = [fitted.predict_proba([image])[0] for image in cells[0]]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: fitted.predict_proba([image])[0], cells[0] * 4))
    for found, wanted in zip(together, alone * 4, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_it_is_fitted_in_several_threads(cells: Cells) -> None:
    wanted = cs.PixelClassifier(**QUICK).fit(*cells).predict_proba(cells[0])[0]
    same = cs.PixelClassifier(**QUICK)
    with ThreadPoolExecutor(3) as pool:
        fits = list(pool.map(lambda each: each.fit(*cells), [same, same, cs.PixelClassifier(**QUICK)]))
    for fitted in fits:
        np.testing.assert_array_equal(fitted.predict_proba(cells[0])[0], wanted)


def test_a_second_fit_is_that_of_a_new_one_and_a_failed_one_changes_nothing(cells: Cells) -> None:
    images, label_maps = cells
    three = [np.where(ids == 1, 2, ids) for ids in label_maps]
    wanted = cs.PixelClassifier(**QUICK).fit(images, three).predict_proba(images)[0]
    classifier = cs.PixelClassifier(**QUICK).fit(images, label_maps).fit(images, three)
    assert classifier.classes_.tolist() == [0, 1, 2]
    with pytest.raises(RecipeError, match="members"):
        classifier.set_params(members=0).fit(images, label_maps)
    np.testing.assert_array_equal(classifier.predict_proba(images)[0], wanted)


@contextlib.contextmanager
def _default_type(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "mode",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: _default_type(torch.float64),
        lambda: _default_type(torch.bfloat16),
        lambda: torch.device("meta"),
        lambda: torch.autocast("cpu", torch.bfloat16),
    ],
    ids=["no_grad", "inference_mode", "float64", "bfloat16", "device", "autocast"],
)
def test_settings_of_torch_of_the_caller_change_nothing(
    mode: Callable[[], Any], fitted: cs.PixelClassifier, cells: Cells
) -> None:
    wanted = [each.predict_proba(cells[0])[0] for each in (cs.PixelClassifier(**QUICK).fit(*cells), fitted)]
    with mode():
        found = [
            each.predict_proba(cells[0])[0]
            for each in (cs.PixelClassifier(**QUICK).fit(*cells), pickle.loads(pickle.dumps(fitted)))
        ]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.posix
def test_a_forked_process_predicts_after_its_parent(fitted: cs.PixelClassifier, cells: Cells) -> None:
    """It waited for threads that only its parent had."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        wanted = fitted.predict(cells[0])
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if np.array_equal(fitted.predict(cells[0]), wanted) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("viewed", [np.asfortranarray, lambda each: each[::-1, ::-1].copy()[::-1, ::-1]])
def test_arrays_in_any_memory_layout(viewed: Callable[..., NDArray[Any]], cells: Cells) -> None:
    wanted = cs.PixelClassifier(**QUICK).fit(*cells).predict_proba(cells[0])[0]
    images, label_maps = ([viewed(each) for each in part] for part in cells)
    for each in (*images, *label_maps):
        each.flags.writeable = False
    found = cs.PixelClassifier(**QUICK).fit(images, label_maps).predict_proba(images)[0]
    np.testing.assert_array_equal(found, wanted)


def test_single_pixels_are_images() -> None:
    images, label_maps = [np.full((1, 1), grey, np.uint8) for grey in (0, 200)], [np.full((1, 1), k) for k in (1, 0)]
    classifier = cs.PixelClassifier(**{**QUICK, "extractors": ("ddpm", "filters")}).fit(images, label_maps)
    assert [found.tolist() for found in classifier.predict(images)] == [[[1]], [[0]]]


def test_scikit_learn_cross_validates_it(cells: Cells) -> None:
    images, label_maps = cells
    scores = cross_val_score(
        cs.PixelClassifier(["glass", "cell"], **QUICK), images, label_maps, groups=["a", "b", "c"], cv=GroupKFold(3)
    )
    by_hand = cs.PixelClassifier(["glass", "cell"], **QUICK).fit(images[:2], label_maps[:2])
    assert len(scores) == 3
    assert by_hand.score(images[2:], label_maps[2:]) in scores.tolist()


@pytest.mark.slow
def test_scikit_learn_searches_a_grid_of_parameters(cells: Cells) -> None:
    images, label_maps = cells
    search = GridSearchCV(cs.PixelClassifier(**QUICK), {"steps": [1, 10]}, cv=GroupKFold(2))
    search.fit(images, label_maps, groups=["a", "b", "c"])
    assert search.best_params_ == {"steps": 10}
    by_hand = cs.PixelClassifier(**QUICK).fit(images, label_maps)
    np.testing.assert_array_equal(search.predict(images)[0], by_hand.predict(images)[0])


def test_unnamed_classes_are_numbered(cells: Cells) -> None:
    images, label_maps = cells
    bundle = cs.PixelClassifier(**QUICK).fit(images, [ids.astype(np.int64) for ids in label_maps]).bundle_
    assert bundle.classes == ("class 0", "class 1")


def test_calibration_holds_groups_out(cells: Cells) -> None:
    images, label_maps = (list(part) * 2 for part in cells)
    classifier = cs.PixelClassifier(**QUICK, calibrate=True)
    plain = cs.PixelClassifier(**QUICK).fit(images, label_maps).predict_proba(images[:1])[0]
    held_out = classifier.fit(images, label_maps, groups=range(6)).predict_proba(images[:1])[0]
    assert np.abs(held_out - plain).max() > 1e-3
    # Two groups are too few to hold one out: the same classifier as without.
    with pytest.warns(UserWarning, match="calibrate=True has no effect: it needs 5 groups"):
        two = classifier.fit(images, label_maps, groups=[0, 0, 0, 1, 1, 1]).predict_proba(images[:1])[0]
    np.testing.assert_array_equal(two, plain)
    with pytest.raises(ArrayError, match="calibrate=True holds groups out"):
        classifier.fit(images, label_maps)


def test_floats_are_taken_by_name(cells: Cells) -> None:
    images, label_maps = cells
    wanted = cs.PixelClassifier(**QUICK).fit(images, label_maps).predict_proba(images)
    floats = [image / 255 for image in images]
    found = cs.PixelClassifier(**QUICK, value_range="0..1").fit(floats, label_maps).predict_proba(floats)
    np.testing.assert_array_equal(found[1], wanted[1])
    with pytest.raises(ArrayError, match=r"images\[0\]: holds float64"):
        cs.PixelClassifier(**QUICK).fit(floats, label_maps)


@pytest.mark.parametrize("call", ["predict", "predict_proba", "score", "save"])
def test_what_is_not_fitted_predicts_nothing(call: str, cells: Cells) -> None:
    arguments: tuple[Any, ...] = {"save": ("bundle",), "score": cells}.get(call, (cells[0],))
    with pytest.raises(NotFittedError, match="not fitted yet") as refused:
        getattr(cs.PixelClassifier(), call)(*arguments)
    assert isinstance(refused.value, cs.CytosegError)


@pytest.mark.parametrize(
    ("parameters", "error", "problem"),
    [
        ({"members": 0}, RecipeError, "PixelClassifier: members: Input should be greater"),
        ({"steps": -1}, RecipeError, "PixelClassifier: steps: Input"),
        ({"mpp": -0.5}, RecipeError, "PixelClassifier: mpp: must be 0.01 to 20 micrometres"),
        ({"extractors": ("edges",)}, RecipeError, r"PixelClassifier: extractors\.0: Input"),
        ({"scale": 3}, RecipeError, r"PixelClassifier: scale: Input should be 0\.25, 0\.5, 1, 2 or 4, found 3"),
        ({"extractors": ()}, RecipeError, "PixelClassifier: extractors: name at least one"),
        ({"extractors": "filters"}, ArrayError, "extractors: 'filters' is one text"),
        ({"random_state": None}, RecipeError, "PixelClassifier: random_state: Input"),
        ({"classes": ["cell"]}, ArrayError, r"holds id 1, but ids go from 0 to 0"),
        (
            {"classes": ["cell", "cell"]},
            ArrayError,
            r"classes: found \['cell', 'cell'\], but a list of names is wanted, each once",
        ),
        ({"classes": []}, ArrayError, r"classes: found \[\]"),
        ({"classes": [0, 1]}, ArrayError, r"classes: found \[0, 1\]"),
        ({"classes": 2}, ArrayError, "classes: found 2,"),
        ({"classes": "cell"}, ArrayError, "classes: found 'cell'"),
        ({"backbone": "no-such-model"}, CheckpointError, "^backbone: no-such-model: no such folder"),
        ({"device": "cuda:77"}, RecipeError, "cuda:77"),
    ],
)
def test_a_parameter_out_of_range_is_refused(
    parameters: dict[str, Any], error: type, problem: str, cells: Cells
) -> None:
    with pytest.raises(error, match=problem):
        cs.PixelClassifier(**{**QUICK, **parameters}).fit(*cells)


def test_what_does_not_fit_together_is_refused(cells: Cells) -> None:
    images, label_maps = cells
    classifier = cs.PixelClassifier(["glass", "cell"], **QUICK)
    with pytest.raises(ArrayError, match="label_maps: 2 for 3 images"):
        classifier.fit(images, label_maps[:2])
    with pytest.raises(ArrayError, match="groups: 2 for 3 images"):
        classifier.fit(images, label_maps, groups=["a", "b"])
    with pytest.raises(ArrayError, match="images: an empty list"):
        classifier.fit([], [])
    with pytest.raises(LabelError, match=r"^label_maps: hold only class id 0; at least two classes are needed\."):
        classifier.fit(images, [np.zeros_like(ids) for ids in label_maps])
    with pytest.raises(LabelError, match=r"^label_maps: hold only class id 0"):
        cs.PixelClassifier(["glass"], **QUICK).fit(images, [np.zeros_like(ids) for ids in label_maps])
    with pytest.raises(LabelError, match=r"^label_maps: hold no labelled pixel, only 255 \(ignore\)"):
        classifier.fit(images, [np.full_like(ids, cs.IGNORE) for ids in label_maps])


def test_a_backbone_with_blocks_of_its_own_is_used_with_all_its_taps(cells: Cells, tmp_path: Path) -> None:
    blocks = AdmSettings(blocks=1, attention=())
    architecture = Architecture(backbone="adm", dim=8, dim_mults=(1, 2), adm=blocks, channels=1)
    record = TrainingRecord(crops_seen=0, architecture=architecture.as_json())
    save_checkpoint(tmp_path / "net", {"ema": build_unet(architecture).state_dict()}, record.as_json())
    images, label_maps = cells
    settings = {**QUICK, "extractors": ("ddpm",), "steps": 2, "backbone": tmp_path / "net"}
    fitted = cs.PixelClassifier(**settings).fit(images[:1], label_maps[:1])
    assert fitted.bundle_._content.features.taps == tap_names(architecture)
    assert fitted.bundle_._content.recipe["diffusion"]["channels"] == 1
    assert fitted.predict(images[:1])[0].shape == (48, 48)


def test_a_folder_of_other_files_is_not_replaced_by_a_bundle(fitted: cs.PixelClassifier, tmp_path: Path) -> None:
    """They were deleted without a word."""
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"holds other files, such as 'thesis\.txt', which would be deleted"):
        fitted.save(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("thesis.txt", "mine")]
