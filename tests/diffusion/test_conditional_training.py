"""Training of a network that is conditioned on class maps."""

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cytoseg.checkpoints import load_state
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.class_map import one_hot_map
from cytoseg.diffusion.settings import TrainSettings
from cytoseg.diffusion.state import TrainState, load_backbone
from cytoseg.diffusion.train import Watch, train
from cytoseg.diffusion.train_plan import TrainPlan
from cytoseg.diffusion.train_steps import StepReport, new_state
from cytoseg.errors import CheckpointError

PLAIN = Architecture(
    backbone="adm",
    dim=8,
    dim_mults=(1, 2),
    timesteps=10,
    schedule="cosine",
    adm=AdmSettings(blocks=1, attention=()),
)
OF_MAPS = dataclasses.replace(PLAIN, condition="map", map_classes=("glass", "nucleus"))
FIRST = "input_blocks.0.0.weight"
Train = Callable[..., TrainState]


def _dark(_numbers: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
    return x0, one_hot_map((x0.mean(1) < 0).long(), 2)


@pytest.fixture(scope="module")
def train_maps(make_settings: Callable[..., TrainSettings], random_crops: Callable[[int], Dataset[Tensor]]) -> Train:
    def run(folder: Path, architecture: Architecture = OF_MAPS, *, resume: bool = False, **changes: Any) -> TrainState:
        watch = Watch(changes.pop("on_step", lambda _: None), changes.pop("on_note", lambda _: None))
        maps = _dark if architecture.condition == "map" else None
        further = {"maps": maps, "maps_from": changes.pop("maps_from", ""), "init": changes.pop("init", None)}
        settings = make_settings(**changes)
        plan = TrainPlan(architecture, settings, {"training": dataclasses.asdict(settings)}, **further)
        crops_from = lambda first: random_crops(first, settings.crops)  # noqa: E731 - an argument with a name
        return train(folder, plan, crops_from, device=torch.device("cpu"), resume=resume, watch=watch)

    return run


def _interrupt_at(crops_seen: int) -> Callable[[StepReport], None]:
    def on_step(report: StepReport) -> None:
        if report.crops_seen == crops_seen:
            signal.raise_signal(signal.SIGINT)

    return on_step


def test_it_resumes_exactly_and_learns_the_map(
    tmp_path: Path, train_maps: Train, make_settings: Callable[..., TrainSettings]
) -> None:
    whole = train_maps(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_maps(tmp_path / "parts", on_step=_interrupt_at(20))
    parts = train_maps(tmp_path / "parts", resume=True)
    torch.testing.assert_close(parts.unet.state_dict(), whole.unet.state_dict(), rtol=0, atol=0)
    now, before = (state.unet.get_parameter(FIRST) for state in (whole, new_state(OF_MAPS, make_settings())))
    assert bool((now != before)[:, 3:5].all())
    in_parts = train_maps(tmp_path / "micro", micro_batch=1)
    torch.testing.assert_close(in_parts.unet.state_dict(), whole.unet.state_dict(), rtol=0, atol=2e-3)
    _, found, _ = load_backbone(tmp_path / "whole", OF_MAPS)
    assert (found.condition, found.map_classes) == ("map", ("glass", "nucleus"))


def test_other_maps_are_noted(tmp_path: Path, train_maps: Train) -> None:
    notes: list[str] = []
    train_maps(tmp_path, crops=4, maps_from="a", on_note=notes.append)
    assert load_state(tmp_path / "checkpoint-000000004")["maps_from"] == "a"
    train_maps(tmp_path, resume=True, crops=8, maps_from="a", on_note=notes.append)
    assert notes == []
    train_maps(tmp_path, resume=True, crops=12, maps_from="b", on_note=notes.append)
    (note,) = notes
    assert note.startswith("The interpreter or the labels that class maps come from have changed since crop 8:")


def test_it_starts_from_a_network_without_maps(tmp_path: Path, train_maps: Train) -> None:
    plain = train_maps(tmp_path / "plain", PLAIN, crops=4)
    begun = train_maps(tmp_path / "begun", init=tmp_path / "plain", crops=4, rate=1e-9)
    picture, time = torch.zeros(1, 3, 16, 16), torch.tensor([5])
    with torch.no_grad():
        expected = plain.ema.ema_model.eval()(picture, time)
        torch.testing.assert_close(begun.unet.eval()(picture, time), expected, rtol=0, atol=1e-5)
    begun_again = train_maps(tmp_path / "again", init=tmp_path / "begun", crops=4)
    assert begun_again.started_from is not None
    other = dataclasses.replace(OF_MAPS, map_classes=("glass", "cell"))
    with pytest.raises(CheckpointError, match=r"map_classes \['glass', 'nucleus'\] there, \['glass', 'cell'\] in the"):
        train_maps(tmp_path / "other", other, init=tmp_path / "begun", crops=4)


@pytest.mark.parametrize(
    "change", [{"map_classes": []}, {"condition": "none"}, {"condition": "text"}, {"map_classes": [1, 2]}]
)
def test_an_architecture_whose_parts_do_not_fit_is_refused(change: dict[str, Any]) -> None:
    assert Architecture.from_json(OF_MAPS.as_json()) == OF_MAPS
    assert not {"condition", "map_classes"} & PLAIN.as_json().keys()
    with pytest.raises(ValueError, match="not an architecture"):
        Architecture.from_json({**OF_MAPS.as_json(), **change})
