import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from cytoseg.checkpoints import load_state, save_checkpoint
from cytoseg.commands import export
from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.state import load_backbone
from cytoseg.diffusion.unet import build_unet

CytosegCommand = Callable[..., Result]
ARCHITECTURE = Architecture(dim=8, dim_mults=(1, 2), timesteps=200, schedule="linear", objective="pred_x0")
SMALL = ("diffusion.timesteps=200", "diffusion.objective=pred_x0", "slides.folders=[not those]")
DDPM = Path("runs/tiny/ddpm")


@pytest.fixture
def checkpoint(cytoseg: CytosegCommand) -> Path:
    """A training of 20,000 crops whose log goes a little further than its newest checkpoint."""
    for crops_seen in (8, 20_000):
        state = {
            "crops_seen": crops_seen,
            "architecture": ARCHITECTURE.as_json(),
            "versions": {"torch": "9.9"},
            "recipe": {
                "crops": {"size_px": 24},
                "slides": {"folders": ["their slides", "more"]},
                "training": {"batch": 4, "rate": 0.001, "ema_decay": 0.99},
            },
            "started_from": {"path": "runs/older/ddpm", "sha256": "abc", "crops_seen": 9},
        }
        weights = build_unet(ARCHITECTURE, seed=crops_seen).state_dict()
        save_checkpoint(DDPM / f"checkpoint-{crops_seen:09d}", {"ema": weights, "model": weights}, state)
    rows = [
        {"crops_seen": 10_000, "loss": 7.0, "by_t": {"0-19": 9.0}},
        {"crops_seen": 15_000, "loss": 0.3, "by_t": {"20-39": 0.5, "0-19": 0.1}},
        {"crops_seen": 20_000, "loss": 0.1, "by_t": {"100-119": 0.01}},
        {"crops_seen": 20_008, "loss": 7.0, "by_t": {"0-19": 9.0}},
    ]
    (DDPM / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (DDPM / "samples.png").write_bytes(b"an image")
    return DDPM / "checkpoint-000020000"


def test_the_newest_weights_are_exported_with_a_card(cytoseg: CytosegCommand, checkpoint: Path) -> None:
    result = cytoseg("export", "tiny.yaml", "base", *SMALL)
    assert result.exit_code == 0, result.output
    assert "base: 0.2 MB, after 20000 crops. Describe the slides in its README.md." in result.stdout
    assert sorted(path.name for path in Path("base").iterdir()) == [
        "README.md",
        "ema.safetensors",
        "samples.png",
        "state.json",
    ]
    assert (Path("base") / "samples.png").read_bytes() == b"an image"
    unet, _, origin = load_backbone(Path("base"))
    assert origin["crops_seen"] == 20_000
    expected = build_unet(ARCHITECTURE, seed=20_000).init_conv.weight
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(unet.state_dict()["init_conv.weight"], expected, rtol=1e-3, atol=1e-4)


def test_after_an_interruption_there_is_no_half_export_in_the_way_of_the_next(
    cytoseg: CytosegCommand, checkpoint: Path
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytoseg.commands.export.shutil.copyfile", interrupt)
        assert cytoseg("export", "tiny.yaml", "base", *SMALL).exit_code == 130
    assert list(Path.cwd().glob("*base*")) == []
    assert cytoseg("export", "tiny.yaml", "base", *SMALL).exit_code == 0


def test_the_card_says_what_was_done(cytoseg: CytosegCommand, checkpoint: Path) -> None:
    cytoseg("export", "tiny.yaml", "base", *SMALL)
    card = (Path("base") / "README.md").read_text()
    sha = load_state(Path("base"))["sha256"]["ema"]
    for said in (
        "# tiny\n",
        "| network | lucidrains, dim 8, multipliers [1, 2] |",
        "| process | T = 200, linear schedule, pred_x0 |",
        "| trained on | 20,000 crops of 24 px, 4 a step, rate 0.001 |",
        "| slides | their slides, more |",
        "| started from | runs/older/ddpm, sha256 `abc`, which had its own slides |",
        "averaged (decay 0.99)",
        f"fp16, sha256 `{sha}` |",
        "| made with | torch 9.9 |",
        "| t | all | 0-19 | 20-39 | 100-119 |\n|---|---|---|---|---|\n| loss | 0.2000 | 0.1000 | 0.5000 | 0.0100 |",
        "## Data and licence\n\nNot stated.",
        "![samples](samples.png)",
    ):
        assert said in card
    assert "denoised" not in card


def test_the_card_says_the_loss_where_samples_get_their_colours(cytoseg: CytosegCommand, checkpoint: Path) -> None:
    rows = [
        {"crops_seen": 19_996, "loss": 0.4, "by_t": {"160-179": 0.7, "180-199": 0.002}},
        {"crops_seen": 20_000, "loss": 0.4, "by_t": {"180-199": 0.004}},
    ]
    (DDPM / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cytoseg("export", "tiny.yaml", "base", *SMALL)
    assert "Loss at t >= 180: 0.003000." in (Path("base") / "README.md").read_text()


def test_samples_that_are_noise_stay_out_of_the_card(cytoseg: CytosegCommand, checkpoint: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(DDPM / "samples.png")
    cytoseg("export", "tiny.yaml", "base", *SMALL)
    assert "samples" not in (Path("base") / "README.md").read_text()
    assert not (Path("base") / "samples.png").exists()


def test_a_training_without_log_has_a_card_too(cytoseg: CytosegCommand, checkpoint: Path) -> None:
    (DDPM / "metrics.jsonl").unlink()
    assert cytoseg("export", "tiny.yaml", "base", *SMALL).exit_code == 0
    card = (Path("base") / "README.md").read_text()
    assert "Not recorded." in card
    assert "Loss at t >= 180: not recorded." in card


def test_a_folder_that_is_there_is_left_alone(cytoseg: CytosegCommand, checkpoint: Path) -> None:
    Path("base").mkdir()
    (Path("base") / "README.md").write_text("by hand")
    result = cytoseg("export", "tiny.yaml", "base", *SMALL)
    assert result.exit_code == 2
    assert "base: already exists" in result.stderr
    assert [path.name for path in Path("base").iterdir()] == ["README.md"]


def test_without_a_checkpoint_there_is_nothing_to_export(cytoseg: CytosegCommand) -> None:
    result = cytoseg("export", "tiny.yaml", "base", *SMALL)
    assert result.exit_code == 2
    assert "no checkpoint yet. Run `cytoseg train-ddpm`" in result.stderr
    assert not Path("base").exists()


def test_without_a_model_of_its_own_it_is_said_what_can_be_shared(cytoseg: CytosegCommand) -> None:
    Path("tiny.yaml").write_text(Path("tiny.yaml").read_text().replace("diffusion:", "# diffusion:"))
    result = cytoseg("export", "tiny.yaml", "base", "training.init=cytology-base")
    assert result.exit_code == 2
    assert "no checkpoint yet, the features are those of cytology-base as it is." in result.stderr
    assert "To share the trained interpreter, copy runs/tiny/interpreter/bundle; " in result.stderr


def test_a_checkpoint_that_does_not_say_how_it_was_trained_is_refused(cytoseg: CytosegCommand) -> None:
    state = {"crops_seen": 8, "architecture": ARCHITECTURE.as_json()}
    save_checkpoint(DDPM / "checkpoint-000000008", {"ema": build_unet(ARCHITECTURE).state_dict()}, state)
    result = cytoseg("export", "tiny.yaml", "base", *SMALL)
    assert result.exit_code == 2
    assert (
        "checkpoint-000000008: written by an older version, without its recipe. Continue its training" in result.stderr
    )


@pytest.mark.parametrize("row", ['{"loss": 0.5}', '{"crops_seen": "x"}', '{"crops_seen": 9, "loss": []}'])
def test_a_log_that_makes_no_sense_is_refused_before_anything_is_written(
    cytoseg: CytosegCommand, checkpoint: Path, row: str
) -> None:
    (DDPM / "metrics.jsonl").write_text(row + "\n")
    result = cytoseg("export", "tiny.yaml", "base", *SMALL)
    assert result.exit_code == 2
    assert "its training record or metrics.jsonl is damaged" in result.stderr
    assert not Path("base").exists()


def test_of_two_exports_into_one_folder_the_quicker_stays(
    cytoseg: CytosegCommand, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = export.export_averaged

    def overtaken(*given: object, **named: object) -> object:
        Path("base").mkdir()
        (Path("base") / "state.json").write_text("of another run")
        return real(*given, **named)  # type: ignore[arg-type] # as they were given

    monkeypatch.setattr(export, "export_averaged", overtaken)
    result = cytoseg("export", "tiny.yaml", "base", *SMALL)
    assert result.exit_code == 2
    assert "base: already exists" in result.stderr
    assert [path.read_text() for path in Path("base").iterdir()] == ["of another run"]
