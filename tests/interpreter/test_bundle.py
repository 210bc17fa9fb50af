import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cytoseg.checkpoints import network_with, save_checkpoint
from cytoseg.classes import ClassList
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.efficientnet import LiteEncoder
from cytoseg.diffusion.unet import build_unet
from cytoseg.errors import CheckpointError, DamagedError
from cytoseg.features.extract import FeatureExtractor, to_input
from cytoseg.features.settings import FILTERS_A_CHANNEL, FeatureSettings
from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor, bundle_hashes, bundle_state, load_bundle, save_bundle
from cytoseg.interpreter.mlp import Ensemble
from cytoseg.interpreter.native_inference import member_probabilities
from cytoseg.interpreter.segdiff import SegDiff
from cytoseg.interpreter.vote import jensen_shannon, vote

CPU = torch.device("cpu")
TILES = np.random.default_rng(0).integers(0, 256, (2, 7, 10, 3), dtype=np.uint8)


@pytest.fixture
def bundle(make_ensemble: Callable[..., Ensemble]) -> Bundle:
    tiny = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", objective="pred_noise")
    return Bundle(
        unet=build_unet(tiny, seed=1).eval(),
        architecture=tiny,
        interpreter=make_ensemble(3, 2 * (16 + 8), 3),
        features=FeatureSettings(("block0.block2", "block1.block1"), (50, 150), scale=2, noise_seed=9),
        classes=ClassList(("glass", "cell", "nucleus"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)), "glass"),
        mpp=0.5,
        vote="soft",
        precision="no",
        origin={"recipe": "tiny", "labels": {"a": "12ab"}},
    )


@pytest.mark.parametrize("changes", [{}, {"mpp": None, "vote": "hard", "precision": "bf16"}])
def test_what_is_saved_is_read_back(bundle: Bundle, tmp_path: Path, changes: dict[str, str | None]) -> None:
    bundle = replace(bundle, **changes)  # type: ignore[arg-type] # the values fit their fields
    save_bundle(tmp_path / "bundle", bundle)
    loaded = load_bundle(tmp_path / "bundle")
    for name in ("architecture", "features", "classes", "mpp", "vote", "precision", "origin"):
        assert getattr(loaded, name) == getattr(bundle, name), name
    assert not loaded.unet.training
    assert not loaded.interpreter.training
    assert (loaded.interpreter.members, loaded.interpreter.classes) == (3, 3)


def test_joined_filters_are_remembered(bundle: Bundle, tmp_path: Path, make_ensemble: Callable[..., Ensemble]) -> None:
    joined = replace(
        bundle,
        features=replace(bundle.features, extractors=("ddpm", "filters")),
        interpreter=make_ensemble(3, 2 * (16 + 8) + 3 * FILTERS_A_CHANNEL, 3),
    )
    save_bundle(tmp_path / "bundle", joined)
    after = EnsemblePredictor(load_bundle(tmp_path / "bundle"), device=CPU)(TILES)
    for name, array in EnsemblePredictor(joined, device=CPU)(TILES).items():
        np.testing.assert_array_equal(after[name], array)


def test_a_bundle_from_before_extractors_had_names_is_read(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", bundle)
    path = tmp_path / "bundle" / "state.json"
    state = json.loads(path.read_text())
    assert state["features"].pop("extractors") == ["ddpm"]
    for filters, expected in ((True, ("ddpm", "filters")), (False, ("ddpm",))):
        path.write_text(json.dumps({**state, "features": {**state["features"], "filters": filters}}))
        assert load_bundle(tmp_path / "bundle").features.extractors == expected
    path.write_text(json.dumps({**state, "features": {**state["features"], "extractors": ["gabor"]}}))
    with pytest.raises(DamagedError, match=r"damaged, or of a different version \(ValueError: extractors"):
        load_bundle(tmp_path / "bundle")


def test_the_frozen_network_comes_with_the_bundle(
    bundle: Bundle, tmp_path: Path, make_ensemble: Callable[..., Ensemble], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    features = replace(bundle.features, extractors=("filters", "pretrained"))
    joined = replace(
        bundle, features=features, interpreter=make_ensemble(3, 3 * FILTERS_A_CHANNEL + 272, 3), encoder=LiteEncoder()
    )
    save_bundle(tmp_path / "bundle", joined)
    monkeypatch.setattr("cytoseg.diffusion.efficientnet.WEIGHTS_PACKAGE", "no_such_package_of_weights")
    after = EnsemblePredictor(load_bundle(tmp_path / "bundle"), device=CPU)(TILES)
    for name, array in EnsemblePredictor(joined, device=CPU)(TILES).items():
        np.testing.assert_array_equal(after[name], array)
    assert float(after["probabilities"].std(axis=(2, 3)).mean()) > 0


@pytest.mark.parametrize("rule", ["soft", "hard"])
def test_a_loaded_bundle_predicts_the_same(bundle: Bundle, tmp_path: Path, rule: str) -> None:
    bundle = replace(bundle, vote=rule)
    save_bundle(tmp_path / "bundle", bundle)
    before = EnsemblePredictor(bundle, device=CPU)(TILES)
    after = EnsemblePredictor(load_bundle(tmp_path / "bundle"), device=CPU)(TILES)
    assert before.keys() == after.keys() == {"probabilities", "disagreement"}
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)


@pytest.mark.usefixtures("bf16_everywhere")
@pytest.mark.parametrize(("rule", "precision"), [("soft", "no"), ("hard", "no"), ("soft", "bf16")])
def test_the_predictor_votes_on_the_features_of_its_tiles(bundle: Bundle, rule: str, precision: str) -> None:
    maps = EnsemblePredictor(replace(bundle, vote=rule, precision=precision), device=CPU)(TILES)
    extractor = FeatureExtractor(bundle.unet, bundle.architecture, bundle.features, device=CPU, precision=precision)
    members = member_probabilities(bundle.interpreter, extractor(to_input(TILES)), precision=precision)
    np.testing.assert_allclose(maps["probabilities"], vote(members, rule=rule).numpy(), atol=1e-6)
    np.testing.assert_allclose(maps["disagreement"], jensen_shannon(members).numpy(), atol=1e-6)
    assert maps["probabilities"].shape == (2, 3, 7, 10)
    assert maps["disagreement"].shape == (2, 7, 10)
    assert maps["probabilities"].dtype == maps["disagreement"].dtype == np.float32
    assert maps["disagreement"].min() >= 0 < maps["disagreement"].max() <= np.log(3)


def test_hashes_tell_bundles_apart(bundle: Bundle, tmp_path: Path, make_ensemble: Callable[..., Ensemble]) -> None:
    save_bundle(tmp_path / "one", bundle)
    save_bundle(tmp_path / "again", bundle)
    other = make_ensemble(3, 48, 3)
    other.mean += 1
    save_bundle(tmp_path / "other", replace(bundle, interpreter=other))
    one, again, changed = (bundle_hashes(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again
    assert one["backbone"] == changed["backbone"]
    assert one["ensemble"] != changed["ensemble"]


@pytest.mark.parametrize("name", ["backbone", "ensemble"])
def test_damaged_weights_are_refused(bundle: Bundle, tmp_path: Path, name: str) -> None:
    save_bundle(tmp_path / "bundle", bundle)
    path = tmp_path / "bundle" / f"{name}.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=rf"{name}\.safetensors: damaged"):
        load_bundle(tmp_path / "bundle")


def test_a_state_cut_in_half_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", bundle)
    path = tmp_path / "bundle" / "state.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(CheckpointError, match=r"state\.json: damaged"):
        load_bundle(tmp_path / "bundle")
    with pytest.raises(CheckpointError, match=r"state\.json: damaged"):
        bundle_hashes(tmp_path / "bundle")


@pytest.mark.parametrize(
    "changes",
    [{"members": 4}, {"vote": "loud"}, {"architecture": {}}, {"classes": None}, {"features": 1}, {"sha256": None}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_state_of_something_else_is_refused(bundle: Bundle, tmp_path: Path, changes: dict[str, object]) -> None:
    save_bundle(tmp_path / "bundle", bundle)
    path = tmp_path / "bundle" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(DamagedError, match=r"state\.json: damaged.*\. Run `cytoseg train-interpreter` again\.$"):
        load_bundle(tmp_path / "bundle")


def test_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no bundle yet"):
        load_bundle(tmp_path / "bundle")


def test_a_checkpoint_of_a_diffusion_model_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "ddpm", {"ema": bundle.unet.state_dict()}, {"architecture": {}})
    for read in (load_bundle, bundle_hashes):
        with pytest.raises(CheckpointError, match="ddpm: this is a training checkpoint, but segmentation needs a"):
            read(tmp_path / "ddpm")


@pytest.mark.parametrize("name", ["backbone.safetensors", "ensemble.safetensors", "state.json"])
def test_a_file_from_another_bundle_is_refused(
    bundle: Bundle, tmp_path: Path, make_ensemble: Callable[..., Ensemble], name: str
) -> None:
    save_bundle(tmp_path / "bundle", bundle)
    ensemble = make_ensemble(3, 48, 3)
    ensemble.mean += 1
    other = replace(bundle, unet=build_unet(bundle.architecture, seed=2).eval(), interpreter=ensemble)
    save_bundle(tmp_path / "other", other)
    (tmp_path / "bundle" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(CheckpointError, match=r"safetensors: damaged \(its content does not match its hash\)"):
        load_bundle(tmp_path / "bundle")


def test_one_changed_weight_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", bundle)
    path = tmp_path / "bundle" / "backbone.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"backbone\.safetensors: damaged"):
        load_bundle(tmp_path / "bundle")


@pytest.mark.parametrize(
    "keys",
    [
        {"members": 20_000},
        {"members": 10**12},
        {"members": "3"},
        {"members": [3]},
        {"architecture": {"dim": 100_000}},
        {"architecture": {"dim": 10**15}},
        {"architecture": {"dim_mults": [1] * 1000}},
        {"architecture": {"dim_mults": 3}},
        {"architecture": {"backbone": ["pretrained"]}},
        {"architecture": []},
        {"classes": {"names": [1, 2, 3]}},
        {"classes": {"colours": [[1, 2], [3, 4], [5, 6]]}},
        {"classes": {"colours": [[1, 2, 300]] * 3}},
        {"classes": {"fill": "other"}},
        {"classes": None},
        {"features": {"scale": 10**9}},
        {"features": {"scale": 64}},  # a recipe allows 1, 2 and 4
        {"features": {"timesteps": ["a"]}},
        {"features": {"timesteps": [10**6]}},
        {"features": {"taps": ["block9.block1"]}},
        {"origin": []},
        {"mpp": "0.5"},
        {"precision": 3},
        {"vote": ["soft"]},
    ],
)
def test_a_state_that_does_not_fit_its_weights_is_refused_at_once(
    bundle: Bundle, tmp_path: Path, keys: dict[str, Any]
) -> None:
    save_bundle(tmp_path / "bundle", bundle)
    path = tmp_path / "bundle" / "state.json"
    state = json.loads(path.read_text())
    for key, value in keys.items():
        state[key] = {**state[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(state))
    begin = time.process_time()
    with pytest.raises(CheckpointError, match=r"state\.json: damaged, or of a different version"):
        load_bundle(tmp_path / "bundle")
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": None},
        {"mpp": [1]},
        {"vote": []},
        {"features": 3},
        {"recipe": "x"},
        {"classes": {"names": ["a", 0.5], "colours": [[1, 2, 3], [4, 5, 6]], "fill": None}},
    ],
)
def test_what_is_read_without_the_weights_is_looked_at_too(
    bundle: Bundle, tmp_path: Path, changes: dict[str, object]
) -> None:
    save_bundle(tmp_path / "bundle", bundle)
    path = tmp_path / "bundle" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(DamagedError, match=r"state\.json: damaged, or of a different version"):
        bundle_state(tmp_path / "bundle")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinite_weights_are_refused(bundle: Bundle, tmp_path: Path, value: float) -> None:
    next(iter(bundle.interpreter.state_dict().values())).view(-1)[0] = value
    save_bundle(tmp_path / "bundle", bundle)
    with pytest.raises(DamagedError, match=r"damaged, or of a different version \(ValueError: a weight is NaN or inf"):
        load_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("group", ["a\0b", "x" * 5000, "../ensemble", "", "."])
def test_a_state_that_names_no_file_of_its_folder_is_refused(bundle: Bundle, tmp_path: Path, group: str) -> None:
    save_bundle(tmp_path / "bundle", bundle)
    path = tmp_path / "bundle" / "state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "sha256": {group: "00"}}))
    with pytest.raises(DamagedError, match=r"damaged \(names weights outside its folder") as caught:
        load_bundle(tmp_path / "bundle")
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("architecture", "schedule", "\x1b[2J"),
        ("architecture", "objective", "pred_all"),
        ("architecture", "backbone", "x" * 5000),
        ("features", "taps", ["block0.block2"] * 100_000),
        ("features", "timesteps", [50] * 100_000),
        ("", "precision", "fp8"),
        ("", "format", "x" * 5000),
    ],
)
def test_a_state_of_unknown_words_or_endless_lists_is_refused(
    bundle: Bundle, tmp_path: Path, section: str, key: str, value: object
) -> None:
    save_bundle(tmp_path / "bundle", bundle)
    path = tmp_path / "bundle" / "state.json"
    state = json.loads(path.read_text())
    (state[section] if section else state)[key] = value
    path.write_text(json.dumps(state))
    begin = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        load_bundle(tmp_path / "bundle")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert time.monotonic() - begin < 5


def test_whole_numbers_as_weights_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    weights = bundle.interpreter.state_dict()
    whole = {name: torch.zeros(found.shape, dtype=torch.int8) for name, found in weights.items()}
    with pytest.raises(ValueError, match="have the wrong shape or type"):
        network_with(lambda: Ensemble(3, 48, 3, seed=0), whole)


def test_a_feature_that_is_divided_by_0_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    bundle.interpreter.state_dict()["scale"][5] = 0
    save_bundle(tmp_path / "bundle", bundle)
    with pytest.raises(DamagedError, match="the scale of a feature is 0"):
        load_bundle(tmp_path / "bundle")


def test_a_segdiff_that_rules_out_every_class_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    drawer = SegDiff(3, seed=0, votes=2, draw_steps=2)
    drawer.rule_out([0, 1, 2])
    save_bundle(tmp_path / "bundle", replace(bundle, interpreter=drawer.eval()))
    with pytest.raises(DamagedError, match="every class is ruled out"):
        load_bundle(tmp_path / "bundle")
