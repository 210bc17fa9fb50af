import dataclasses
import errno
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ema_pytorch import EMA
from torch import Tensor
from torch.utils.data import Dataset

from cytoseg.checkpoints import find_checkpoints, load_checkpoint, load_state
from cytoseg.diffusion import train_steps
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.loss_log import LossReading, LossWindow
from cytoseg.diffusion.mask_loss import MaskParts
from cytoseg.diffusion.settings import TrainSettings
from cytoseg.diffusion.state import TrainState
from cytoseg.diffusion.train import Watch, _refuse_different_starts, train
from cytoseg.diffusion.train_plan import TrainPlan
from cytoseg.diffusion.train_steps import StepReport, new_state
from cytoseg.errors import CheckpointError, SlideError
from cytoseg.runs import MetricsLog, read_metrics

CPU, GPU = torch.device("cpu"), torch.device("cuda")
Crops = Callable[..., Dataset[Tensor]]
Settings = Callable[..., TrainSettings]
Train = Callable[..., TrainState]
Whole = tuple[TrainState, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def train_tiny(tiny: Architecture, make_settings: Settings, random_crops: Crops) -> Train:
    """Train ten steps in a folder; keywords change the settings."""

    def run(
        folder: Path, *, resume: bool = False, on_step: Any = lambda _: None, watch: Watch | None = None, **changes: Any
    ) -> TrainState:
        init, architecture = changes.pop("init", None), changes.pop("architecture", tiny)
        slides, device, masks = changes.pop("slides", ""), changes.pop("device", CPU), changes.pop("masks", None)
        settings = make_settings(**changes)
        crops_from = lambda first: random_crops(first, settings.crops)  # noqa: E731 - an argument with a name
        plan = TrainPlan(architecture, settings, {"training": dataclasses.asdict(settings)}, init, slides, masks)
        return train(folder, plan, crops_from, device=device, resume=resume, watch=watch or Watch(on_step))

    return run


@pytest.fixture(scope="module")
def whole(train_tiny: Train, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What ten steps without a stop give: the state and the logged rows."""
    folder = tmp_path_factory.mktemp("whole")
    return train_tiny(folder), read_metrics(folder / "metrics.jsonl")


def _interrupt_at(crops_seen: int) -> Callable[[StepReport], None]:
    def on_step(report: StepReport) -> None:
        if report.crops_seen == crops_seen:
            signal.raise_signal(signal.SIGINT)

    return on_step


def _assert_same(a: TrainState, b: TrainState) -> None:
    assert a.crops_seen == b.crops_seen
    assert int(a.ema.step) == int(b.ema.step)
    for x, y in (
        (a.unet.state_dict(), b.unet.state_dict()),
        (a.ema.ema_model.state_dict(), b.ema.ema_model.state_dict()),
        (a.optimiser.state_dict()["state"], b.optimiser.state_dict()["state"]),
    ):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path, train_tiny: Train, whole: Whole) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path, on_step=_interrupt_at(20))
    assert [p.name for p in find_checkpoints(tmp_path)] == ["checkpoint-000000020"]
    _assert_same(train_tiny(tmp_path, resume=True), whole[0])
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["crops_seen"] for row in rows] == list(range(4, 41, 4))
    assert rows == whole[1]


HYBRID = Architecture(
    dim=8, dim_mults=(1, 1, 1), timesteps=10, schedule="cosine", backbone="pretrained", mask_classes=("glass", "cell")
)


def _stripes(numbers: Tensor) -> MaskParts:
    """Labelled parts that follow from their numbers: a bright and a dark half."""
    pictures = torch.ones(len(numbers), 3, 16, 16)
    for picture, number in zip(pictures, numbers.tolist(), strict=True):
        picture[:, :, : 4 + number % 8] = -0.5
    targets = (pictures[:, 0] < 0).long()
    return MaskParts(pictures, targets, torch.ones(len(numbers), 2, dtype=torch.bool), torch.ones(len(numbers), 3))


@pytest.mark.slow
def test_a_hybrid_training_resumes_exactly_and_learns_both(tmp_path: Path, train_tiny: Train) -> None:
    changes: dict[str, Any] = {"architecture": HYBRID, "masks": _stripes, "crops": 32, "encoder_rate": 0.3}
    whole = train_tiny(tmp_path / "whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "parts", on_step=_interrupt_at(16), **changes)
    _assert_same(train_tiny(tmp_path / "parts", resume=True, **changes), whole)
    rows = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert rows == read_metrics(tmp_path / "parts" / "metrics.jsonl")
    assert rows[-1]["mask_loss"] < rows[0]["mask_loss"]
    shared_out = train_tiny(tmp_path / "shared", micro_batch=1, **changes)
    torch.testing.assert_close(shared_out.unet.state_dict(), whole.unet.state_dict(), rtol=0, atol=2e-3)


def test_a_training_of_the_variance_resumes_exactly(tmp_path: Path, train_tiny: Train) -> None:
    adm = AdmSettings(blocks=1, attention=())
    learning = Architecture(
        backbone="adm", adm=adm, dim=8, dim_mults=(1, 2), timesteps=10, schedule="cosine", learn_variance=True
    )
    changes: dict[str, Any] = {"architecture": learning}
    whole = train_tiny(tmp_path / "whole", **changes, crops=16)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "parts", on_step=_interrupt_at(8), **changes, crops=16)
    _assert_same(train_tiny(tmp_path / "parts", resume=True, **changes, crops=16), whole)
    assert read_metrics(tmp_path / "whole" / "metrics.jsonl") == read_metrics(tmp_path / "parts" / "metrics.jsonl")


def test_denoising_that_weighs_nothing_is_left_out(tmp_path: Path, train_tiny: Train) -> None:
    state = train_tiny(tmp_path, architecture=HYBRID, masks=_stripes, crops=8, denoising_weight=0.0)
    assert {row["loss"] for row in read_metrics(tmp_path / "metrics.jsonl")} == {0.0}
    fresh = new_state(
        HYBRID,
        TrainSettings(
            crops=8, batch=4, size_px=16, rate=1e-3, rate_schedule="cosine", ema_decay=0.9, seed=3, workers=0
        ),
    ).unet
    assert torch.equal(state.unet.get_parameter("final_conv.weight"), fresh.get_parameter("final_conv.weight"))
    assert not torch.equal(state.unet.get_parameter("mask_head.weight"), fresh.get_parameter("mask_head.weight"))


@pytest.mark.slow
def test_another_list_of_mask_classes_is_refused_when_resuming_but_not_as_a_start(
    tmp_path: Path, train_tiny: Train
) -> None:
    train_tiny(tmp_path / "a", architecture=HYBRID, masks=_stripes, crops=4)
    other = dataclasses.replace(HYBRID, mask_classes=("glass", "cell", "dirt"))
    with pytest.raises(CheckpointError, match=r"has different classes \(glass, cell; by the recipe glass, cell, dirt"):
        train_tiny(tmp_path / "a", architecture=other, resume=True)
    denoising = dataclasses.replace(HYBRID, mask_classes=())
    started = train_tiny(tmp_path / "b", architecture=denoising, init=tmp_path / "a", crops=4)
    assert started.started_from is not None
    assert not any(name.startswith("mask_head") for name in started.unet.state_dict())


@pytest.mark.slow
def test_noise_below_the_highest_timestep_only(tmp_path: Path, train_tiny: Train) -> None:
    train_tiny(tmp_path, highest_t=2)
    assert {name for row in read_metrics(tmp_path / "metrics.jsonl") for name in row["by_t"]} == {"0-0", "1-1"}


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_on_a_gpu_resuming_comes_to_the_same_weights_within_rounding(
    tmp_path: Path, train_tiny: Train, whole: Whole, precision: str
) -> None:
    changes: dict[str, Any] = {"device": GPU, "precision": precision}
    at_once = train_tiny(tmp_path / "whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "parts", on_step=_interrupt_at(20), **changes)
    resumed = train_tiny(tmp_path / "parts", resume=True, **changes)
    # Sums on a GPU may run in another order each time. Ten steps move a weight by up to 1e-2.
    for a, b in ((at_once.unet, resumed.unet), (at_once.ema.ema_model, resumed.ema.ema_model)):
        torch.testing.assert_close(a.state_dict(), b.state_dict(), rtol=0, atol=1e-5 if precision == "no" else 1e-3)
    if precision == "no":
        on_cpu, on_gpu = whole[0].unet.state_dict(), resumed.unet.to(CPU).state_dict()
        torch.testing.assert_close(on_gpu, on_cpu, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_a_finished_training_is_extended_as_if_it_had_never_stopped(tmp_path: Path, train_tiny: Train) -> None:
    constant = {"rate_schedule": "constant", "warmup_crops": 0}
    assert train_tiny(tmp_path / "parts", crops=20, **constant).crops_seen == 20
    extended = train_tiny(tmp_path / "parts", resume=True, **constant)
    _assert_same(extended, train_tiny(tmp_path / "whole", **constant))


def test_every_weight_learns_and_the_average_follows(tiny: Architecture, make_settings: Settings, whole: Whole) -> None:
    state, fresh = whole[0], new_state(tiny, make_settings())
    for name, weights in fresh.unet.named_parameters():
        now, average = state.unet.get_parameter(name), state.ema.ema_model.get_parameter(name)
        assert not torch.equal(now, weights), name
        assert not torch.equal(average, now), name


def test_a_kill_loses_only_what_came_after_the_checkpoint(tmp_path: Path, train_tiny: Train, whole: Whole) -> None:
    def die(report: StepReport) -> None:
        if report.crops_seen == 32:
            raise MemoryError

    with pytest.raises(MemoryError):
        train_tiny(tmp_path, on_step=die, checkpoint_crops=8)
    assert [p.name for p in find_checkpoints(tmp_path)] == ["checkpoint-000000024", "checkpoint-000000016"]
    _assert_same(train_tiny(tmp_path, resume=True), whole[0])
    assert read_metrics(tmp_path / "metrics.jsonl") == whole[1]


@pytest.mark.slow
@pytest.mark.usefixtures("bf16_everywhere")
def test_half_precision_keeps_weights_in_full(tmp_path: Path, train_tiny: Train) -> None:
    state = train_tiny(tmp_path, crops=8, precision="bf16")
    assert {p.dtype for p in state.unet.parameters()} == {torch.float32}
    assert load_checkpoint(tmp_path / "checkpoint-000000008").tensors["ema"]["init_conv.weight"].dtype == torch.float32


def test_the_last_step_takes_the_crops_that_are_left(tmp_path: Path, train_tiny: Train) -> None:
    reports: list[StepReport] = []
    state = train_tiny(tmp_path, crops=10, on_step=reports.append)
    assert [r.crops_seen for r in reports] == [4, 8, 10]
    assert state.crops_seen == 10
    assert [p.name for p in find_checkpoints(tmp_path)] == ["checkpoint-000000010"]


def test_a_finished_training_is_not_trained_again(tmp_path: Path, train_tiny: Train) -> None:
    done, steps = train_tiny(tmp_path, crops=8), list[StepReport]()
    _assert_same(train_tiny(tmp_path, crops=8, resume=True, on_step=steps.append), done)
    assert steps == []
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


def test_a_checkpoint_is_not_overwritten_unasked(tmp_path: Path, train_tiny: Train) -> None:
    train_tiny(tmp_path, crops=8)
    with pytest.raises(CheckpointError, match=r"already contains checkpoint-000000008\. Add --resume"):
        train_tiny(tmp_path)


def test_another_architecture_is_refused(
    tmp_path: Path, train_tiny: Train, tiny: Architecture, make_settings: Settings, random_crops: Crops
) -> None:
    train_tiny(tmp_path, crops=8)
    other = dataclasses.replace(tiny, dim_mults=(1, 2, 2))
    with pytest.raises(CheckpointError, match=r"dim_mults \[1, 2\] there, \[1, 2, 2\] in the recipe"):
        train(tmp_path, TrainPlan(other, make_settings(), {}), random_crops, device=CPU, resume=True)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    tmp_path: Path, train_tiny: Train, whole: Whole
) -> None:
    train_tiny(tmp_path, crops=24, rate_schedule="constant", checkpoint_crops=8)
    weights = tmp_path / "checkpoint-000000024" / "ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    notes = list[str]()
    state = train_tiny(tmp_path, resume=True, watch=Watch(on_note=notes.append), rate_schedule="constant")
    assert "checkpoint-000000024/ema.safetensors: damaged" in notes[0]
    assert len(notes) == 1
    _assert_same(state, train_tiny(tmp_path / "whole", rate_schedule="constant"))


def test_a_changed_recipe_is_said(tmp_path: Path, train_tiny: Train) -> None:
    train_tiny(tmp_path, crops=8)
    notes = list[str]()
    train_tiny(tmp_path, crops=12, rate=0.5, resume=True, watch=Watch(on_note=notes.append))
    assert notes == ["The recipe has changed since crop 8: training.rate was 0.001, is 0.5. Continuing with it."]


@pytest.mark.slow
def test_looks_come_at_multiples_whenever_it_was_resumed(tmp_path: Path, train_tiny: Train) -> None:
    looks = list[int]()
    watch = Watch(on_preview=lambda state: looks.append(state.crops_seen), preview_crops=10)
    train_tiny(tmp_path, crops=16, watch=watch)
    train_tiny(tmp_path, resume=True, watch=watch)
    assert looks == [12, 20, 32, 40]


@pytest.mark.slow
def test_checkpoints_come_at_multiples_whenever_it_was_resumed(tmp_path: Path, train_tiny: Train) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path, on_step=_interrupt_at(12), checkpoint_crops=16, keep_checkpoints=9)
    train_tiny(tmp_path, resume=True, checkpoint_crops=16, keep_checkpoints=9)
    assert [int(p.name[-9:]) for p in find_checkpoints(tmp_path)] == [40, 32, 16, 12]


@pytest.mark.slow
def test_crops_taken_in_turns_give_the_same_weights(tmp_path: Path, train_tiny: Train, whole: Whole) -> None:
    state = train_tiny(tmp_path, micro_batch=3)
    for name, weights in whole[0].unet.state_dict().items():
        torch.testing.assert_close(state.unet.state_dict()[name], weights, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path: Path, train_tiny: Train, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = Path.write_bytes, list[str]()

    def full_at_the_second(path: Path, data: bytes) -> int:
        written.append(path.name)
        if written.count("optimiser.safetensors") == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_at_the_second)
        with pytest.raises(CheckpointError, match=r"checkpoint-000000016: .*No space left on device"):
            train_tiny(tmp_path, checkpoint_crops=8)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-000000008", "metrics.jsonl"]
    assert load_checkpoint(tmp_path / "checkpoint-000000008").state["crops_seen"] == 8
    _assert_same(train_tiny(tmp_path, resume=True), whole[0])


class LostSlide(Dataset[Tensor]):
    """Random crops, but the slide cannot be read any more from the eleventh crop on."""

    def __init__(self, crops: Dataset[Tensor]) -> None:
        self._crops = crops

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Tensor:
        if index >= 10:
            raise SlideError("a.tif: cannot be read.")
        return self._crops[index]


def test_a_slide_lost_on_the_way_loses_no_step(
    tmp_path: Path, tiny: Architecture, make_settings: Settings, random_crops: Crops
) -> None:
    plan = TrainPlan(tiny, make_settings(), {})
    with pytest.raises(SlideError, match=r"a\.tif: cannot be read\."):
        train(tmp_path, plan, lambda first: LostSlide(random_crops(first)), device=CPU, resume=False)
    assert [p.name for p in find_checkpoints(tmp_path)] == ["checkpoint-000000008"]


@pytest.mark.slow
def test_a_training_starts_from_the_averaged_weights_of_another(
    tmp_path: Path, train_tiny: Train, whole: Whole
) -> None:
    train_tiny(tmp_path / "base", crops=8)
    (checkpoint,) = find_checkpoints(tmp_path / "base")
    average, notes = load_checkpoint(checkpoint).tensors["ema"], list[str]()
    for number, init in enumerate((tmp_path / "base", checkpoint)):
        fresh = train_tiny(tmp_path / str(number), crops=4, rate=1e-9, init=init, watch=Watch(on_note=notes.append))
        torch.testing.assert_close(dict(fresh.unet.state_dict()), average, rtol=0, atol=1e-6)
        torch.testing.assert_close(dict(fresh.ema.ema_model.state_dict()), average, rtol=0, atol=1e-6)
        assert notes.pop().startswith("This run uses its architecture: backbone lucidrains, dim 8, dim_mults [1, 2]")
        assert notes.pop() == f"Starting from {init}, trained on 8 crops."
    resumed = train_tiny(tmp_path / "0", crops=8, rate=1e-9, resume=True, init=tmp_path / "missing")
    assert resumed.crops_seen == 8


def test_starting_from_another_architecture_is_refused(tmp_path: Path, train_tiny: Train, tiny: Architecture) -> None:
    train_tiny(tmp_path / "base", crops=4)
    with pytest.raises(CheckpointError, match=r"dim 8 there, 16 in the recipe"):
        train_tiny(tmp_path / "new", init=tmp_path / "base", architecture=dataclasses.replace(tiny, dim=16))


def test_a_step_that_was_cut_is_not_saved(
    tmp_path: Path, train_tiny: Train, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second Ctrl-C may come between the weights and their average."""
    update, updates = EMA.update, list[int]()

    def cut(ema: EMA) -> None:
        updates.append(1)
        if len(updates) == 6:
            raise KeyboardInterrupt
        update(ema)

    with monkeypatch.context() as patch:
        patch.setattr(EMA, "update", cut)
        with pytest.raises(KeyboardInterrupt):
            train_tiny(tmp_path, checkpoint_crops=16)
    assert [p.name for p in find_checkpoints(tmp_path)] == ["checkpoint-000000016"]
    _assert_same(train_tiny(tmp_path, resume=True, checkpoint_crops=16), whole[0])


def test_pictures_that_cannot_be_written_do_not_end_a_training(tmp_path: Path, train_tiny: Train) -> None:
    def full(_state: TrainState) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "samples.png")

    notes = list[str]()
    state = train_tiny(tmp_path, crops=8, watch=Watch(on_note=notes.append, on_preview=full, preview_crops=4))
    assert state.crops_seen == 8
    assert len(notes) == 2
    assert notes[0].startswith("No images at crop 4 (")


@pytest.mark.slow
def test_a_log_that_cannot_be_written_ends_with_a_checkpoint(
    tmp_path: Path, train_tiny: Train, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = MetricsLog.write

    def full(log: MetricsLog, row: Any) -> None:
        if row["crops_seen"] == 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(log, row)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", full)
        with pytest.raises(OSError, match="No space left"):
            train_tiny(tmp_path)
    assert [p.name for p in find_checkpoints(tmp_path)] == ["checkpoint-000000012"]
    _assert_same(train_tiny(tmp_path, resume=True), whole[0])


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path, train_tiny: Train) -> None:
    half = tmp_path / ".checkpoint-000000004-ab12cd34" / "new"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    train_tiny(tmp_path, crops=4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-000000004", "metrics.jsonl"]


def test_losses_that_are_read_now_and_then_are_read_before_each_checkpoint_and_at_the_end(
    tmp_path: Path, train_tiny: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_steps, "LossWindow", lambda accelerator, every: LossWindow(accelerator, every=4))
    readings = list[LossReading]()

    def on_step(report: StepReport) -> None:
        if report.reading is not None:
            readings.append(report.reading)

    train_tiny(tmp_path, checkpoint_crops=24, on_step=on_step)
    assert [row["crops_seen"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [16, 24, 40]
    assert torch.cat([reading.numbers for reading in readings]).tolist() == list(range(40))


@pytest.mark.slow
def test_where_a_training_started_from_is_kept(tmp_path: Path, train_tiny: Train) -> None:
    train_tiny(tmp_path / "base", crops=8)
    (base,) = find_checkpoints(tmp_path / "base")
    expected = {"path": str(base), "sha256": load_state(base)["sha256"]["ema"], "crops_seen": 8}
    train_tiny(tmp_path / "new", crops=4, init=base)
    notes = list[str]()
    train_tiny(tmp_path / "new", crops=8, resume=True, init=base, watch=Watch(on_note=notes.append))
    assert notes == []
    train_tiny(tmp_path / "new", crops=12, resume=True, init=tmp_path, watch=Watch(on_note=notes.append))
    assert notes == [f"training.init={tmp_path} is ignored: continuing from crop 8 of this training."]
    assert [load_state(path)["started_from"] for path in find_checkpoints(tmp_path / "new")] == [expected] * 2


def test_changed_slides_are_said(tmp_path: Path, train_tiny: Train) -> None:
    train_tiny(tmp_path, crops=8, slides="two slides")
    notes = list[str]()
    train_tiny(tmp_path, crops=12, resume=True, slides="two slides", watch=Watch(on_note=notes.append))
    assert notes == []
    train_tiny(tmp_path, crops=16, resume=True, slides="three slides", watch=Watch(on_note=notes.append))
    assert notes == [
        "The slides have changed since crop 12: from here on the crops differ from those of the original slides."
    ]


class Ranks:
    """Stands in for an accelerator of two processes, of which the other starts elsewhere by so many crops."""

    def __init__(self, off: int) -> None:
        self.num_processes, self.device, self._off = 2, CPU, off

    def gather(self, mine: Tensor) -> Tensor:
        return torch.cat([mine, mine - torch.tensor([[self._off, 0]])])


def test_processes_that_found_different_checkpoints_do_not_train(whole: Whole) -> None:
    _refuse_different_starts(whole[0], Ranks(0), Path("x"))  # type: ignore[arg-type] # a double
    with pytest.raises(CheckpointError, match=r"^x: the processes found different checkpoints \(crops seen: 40, 32\)"):
        _refuse_different_starts(whole[0], Ranks(8), Path("x"))  # type: ignore[arg-type] # a double


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # of torch itself
def test_a_compiled_network_comes_to_the_same_weights(tmp_path: Path, train_tiny: Train, whole: Whole) -> None:
    state = train_tiny(tmp_path, compile=True)
    for name, weights in whole[0].unet.state_dict().items():
        torch.testing.assert_close(state.unet.state_dict()[name], weights, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.slow
def test_a_folder_that_is_taken_away_meanwhile_is_made_again(train_tiny: Train, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "ddpm"

    def take_away(report: StepReport) -> None:
        if report.crops_seen == 16:
            shutil.rmtree(tmp_path / "runs")

    state = train_tiny(folder, on_step=take_away)
    assert find_checkpoints(folder)[0].name == f"checkpoint-{state.crops_seen:09d}"
    assert [row["crops_seen"] for row in read_metrics(folder / "metrics.jsonl")][-1] == state.crops_seen
