import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cytoseg.checkpoints import find_checkpoints
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.autoencoder_steps import draw_latent_noise
from cytoseg.diffusion.settings import TrainSettings
from cytoseg.diffusion.space import space_of
from cytoseg.diffusion.space_settings import SpaceShape
from cytoseg.diffusion.state import TrainState, load_autoencoder, load_backbone
from cytoseg.diffusion.train import Watch, train
from cytoseg.diffusion.train_plan import TrainPlan
from cytoseg.diffusion.train_steps import StepReport
from cytoseg.errors import CheckpointError, CytosegError
from cytoseg.runs import read_metrics

CPU = torch.device("cpu")
Run = Callable[..., TrainState]
KL = Architecture(
    dim=8, dim_mults=(1, 2), timesteps=10, schedule="cosine", objective="pred_noise", space=SpaceShape("kl", 2, 8)
)
VQ = Architecture(dim=8, dim_mults=(1, 2), timesteps=10, schedule="cosine", space=SpaceShape("vq", 2, 8))


@pytest.fixture(scope="module")
def run(make_settings: Callable[..., TrainSettings], random_crops: Callable[..., Dataset[Tensor]]) -> Run:
    """Train four steps of four crops in a folder; keywords change the settings."""

    def run(folder: Path, architecture: Architecture, *, stop_at: int | None = None, **changes: Any) -> TrainState:
        autoencoder = changes.pop("autoencoder", None)
        settings = make_settings(**({"crops": 16} | changes))
        plan = TrainPlan(architecture, settings, {}, autoencoder=autoencoder)

        def on_step(report: StepReport) -> None:
            if report.crops_seen == stop_at:
                signal.raise_signal(signal.SIGTERM)

        crops_from = lambda first: random_crops(first, settings.crops)  # noqa: E731 - an argument with a name
        return train(folder, plan, crops_from, device=CPU, resume=True, watch=Watch(on_step))

    return run


def _assert_same(a: TrainState, b: TrainState) -> None:
    for x, y in (
        (a.unet.state_dict(), b.unet.state_dict()),
        (a.ema.ema_model.state_dict(), b.ema.ema_model.state_dict()),
        (a.optimiser.state_dict()["state"], b.optimiser.state_dict()["state"]),
    ):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("architecture", "stop_at"),
    [
        pytest.param(KL, 4, id="kl-4"),
        pytest.param(VQ, 8, id="vq-8"),
        pytest.param(KL, 8, id="kl-8", marks=pytest.mark.slow),
        pytest.param(VQ, 4, id="vq-4", marks=pytest.mark.slow),
    ],
)
def test_interrupted_before_or_after_the_discriminator_joined_it_resumes_exactly(
    tmp_path: Path, run: Run, architecture: Architecture, stop_at: int
) -> None:
    own = architecture.of_autoencoder()
    whole = run(tmp_path / "whole", own, adversarial_from=8)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", own, adversarial_from=8, stop_at=stop_at)
    _assert_same(run(tmp_path / "parts", own, adversarial_from=8), whole)
    rows = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert rows == read_metrics(tmp_path / "parts" / "metrics.jsonl")
    assert [row["discriminator_loss"] > 0 for row in rows] == [False, False, True, True]
    assert "by_t" not in rows[0]


def test_crops_taken_in_turns_give_the_same_weights(tmp_path: Path, run: Run) -> None:
    own = KL.of_autoencoder()
    whole, in_turns = (
        run(tmp_path / "a", own, adversarial_from=0),
        run(tmp_path / "b", own, adversarial_from=0, micro_batch=1),
    )
    torch.testing.assert_close(in_turns.unet.state_dict(), whole.unet.state_dict(), rtol=0, atol=1e-3)


def test_a_diffusion_model_takes_the_autoencoder_with_it_and_leaves_it_as_it_is(tmp_path: Path, run: Run) -> None:
    run(tmp_path / "autoencoder", KL.of_autoencoder(), checkpoint_crops=8)
    (_, half) = find_checkpoints(tmp_path / "autoencoder")[:2]
    own = load_autoencoder(tmp_path / "autoencoder", KL)
    state = run(tmp_path / "whole", KL, autoencoder=tmp_path / "autoencoder")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", KL, autoencoder=tmp_path / "autoencoder", stop_at=8)
    _assert_same(run(tmp_path / "parts", KL, autoencoder=half), state)  # a resumed training keeps its own
    unet, found, _ = load_backbone(tmp_path / "whole", KL)
    weights = unet.state_dict()
    assert found.space == SpaceShape("kl", 2, 8)
    for name in own:
        if name.startswith("space.network."):
            torch.testing.assert_close(weights[name], own[name], rtol=0, atol=0)
    crops = torch.stack([_crop(number) for number in range(16)])
    assert float(space_of(unet).encode(crops).std(correction=0)) == pytest.approx(1.0, abs=1e-4)


def _crop(number: int) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.rand(3, 16, 16, generator=generator) * 2 - 1


def test_another_space_or_other_channels_are_refused(tmp_path: Path, run: Run) -> None:
    run(tmp_path, KL.of_autoencoder())
    with pytest.raises(CheckpointError, match=r"'factor': 2.* there, .*'factor': 4.* in the recipe"):
        load_autoencoder(tmp_path, Architecture(space=SpaceShape("kl", 4, 8)))
    with pytest.raises(CheckpointError, match="channels 3 there, 1 in the recipe"):
        load_autoencoder(tmp_path, Architecture(space=SpaceShape("kl", 2, 8), channels=1))
    with pytest.raises(CheckpointError, match="an autoencoder, not a diffusion model"):
        load_backbone(tmp_path)


def test_a_missing_or_damaged_autoencoder_is_named(tmp_path: Path, run: Run) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint of an autoencoder"):
        load_autoencoder(tmp_path, KL)
    run(tmp_path, KL.of_autoencoder())
    state = next(tmp_path.glob("checkpoint-*")) / "state.json"
    state.write_text(state.read_text().replace('"dim": 8', '"dim": 9'), encoding="utf-8")
    with pytest.raises(CheckpointError, match="damaged"):
        load_autoencoder(tmp_path, KL)


def test_a_nan_loss_names_the_command(tmp_path: Path, run: Run) -> None:
    with pytest.raises(CytosegError, match=r"^train-autoencoder: the loss .*Lower space\.rate or"):
        run(tmp_path, KL.of_autoencoder(), crops=80, rate=1e30, warmup_crops=0)


def test_noise_of_a_latent_depends_on_seed_and_number_only() -> None:
    both = draw_latent_noise(torch.tensor([4, 9]), seed=1, size=(2, 3))
    assert both.shape == (2, 4, 2, 3)
    assert torch.equal(draw_latent_noise(torch.tensor([9]), seed=1, size=(2, 3))[0], both[1])
    assert not torch.equal(draw_latent_noise(torch.tensor([9]), seed=2, size=(2, 3))[0], both[1])
