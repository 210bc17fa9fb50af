import signal
from dataclasses import replace
from pathlib import Path
from signal import SIGINT, raise_signal
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.unet import build_unet
from cytoseg.errors import CheckpointError, LabelError
from cytoseg.features.extract import to_input
from cytoseg.interpreter import labelled_training, mean_teacher, tune
from cytoseg.interpreter.decoder import Decoder
from cytoseg.interpreter.labelled_training import LabelledPictures
from cytoseg.interpreter.mean_teacher import Unlabelled, UnlabelledParts
from cytoseg.interpreter.part_draw import class_weights
from cytoseg.interpreter.settings import TuneSettings
from cytoseg.interpreter.tune import held_out_slides, steps_of, tune_decoder
from cytoseg.interpreter.tune_state import Resume

CPU = torch.device("cpu")
TINY = Architecture(dim=8, dim_mults=(1, 2), timesteps=1000, schedule="linear", objective="pred_noise")
COLOURS = np.array([[240, 240, 250], [130, 180, 200], [60, 20, 90]], np.uint8)
TWENTY = "abcdefghijklmnopqrst"
SETTINGS = TuneSettings(steps=4, passes=100, batch=2, size_px=16, rate=5e-3, early=0.5, seed=0, precision="no")


def _decoder() -> Decoder:
    return Decoder(build_unet(TINY, seed=1), TINY, 3, seed=2)


@pytest.fixture
def label_map() -> NDArray[np.uint8]:
    """24x20: glass, a cell and in it a nucleus."""
    ids = np.zeros((24, 20), np.uint8)
    ids[4:20, 3:17] = 1
    ids[9:15, 7:13] = 2
    return ids


def _labelled(label_map: NDArray[np.uint8], *slides: str) -> LabelledPictures:
    return LabelledPictures([COLOURS[label_map]] * len(slides), [label_map] * len(slides), slides)


def _weights(decoder: Decoder) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in decoder.state_dict().items()}


@pytest.mark.slow
def test_learns_what_colour_tells(label_map: NDArray[np.uint8]) -> None:
    settings = replace(SETTINGS, steps=30, rate=4e-2)
    tuned = tune_decoder(_decoder(), _labelled(label_map, "a", "b"), settings=settings, device=CPU)
    with torch.no_grad():
        found = tuned.decoder(to_input(COLOURS[label_map][None])).argmax(1)[0].numpy()
    assert (found == label_map).mean() > 0.93
    assert (tuned.step, tuned.held_out) == (30, ())
    assert not tuned.decoder.training


def test_the_seed_decides(label_map: NDArray[np.uint8]) -> None:
    losses: list[list[float]] = []
    for seed in (0, 0, 1):
        losses.append([])
        tune_decoder(
            _decoder(),
            _labelled(label_map, "a"),
            settings=replace(SETTINGS, seed=seed),
            device=CPU,
            on_step=lambda _step, loss: losses[-1].append(loss),
        )
    assert losses[0] == losses[1] != losses[2]
    assert len(losses[0]) == 4


@pytest.mark.slow
def test_unlabelled_slides_teach_after_the_first_fifth_and_resume_exactly(
    tmp_path: Path, label_map: NDArray[np.uint8]
) -> None:
    labelled, settings = _labelled(label_map, "a"), replace(SETTINGS, steps=5)
    crop = to_input(COLOURS[label_map][None, :16, :16])[0]
    unlabelled = Unlabelled(lambda number: crop.roll(number % 16, 2), 1.0)

    def losses(**more: Any) -> list[float]:
        found: list[float] = []
        tune_decoder(
            _decoder(), labelled, settings=settings, device=CPU, on_step=lambda _s, loss: found.append(loss), **more
        )
        return found

    plain, taught = losses(), losses(unlabelled=unlabelled)
    assert taught[:3] == plain[:3]  # step 1 has no weight yet, and step 2 shows it first in the loss of step 3
    assert taught != plain

    def stop(step: int, _loss: float) -> None:
        if step == 3:
            raise_signal(SIGINT)

    resume = Resume(tmp_path / "unfinished", {})
    with pytest.raises(KeyboardInterrupt):
        tune_decoder(
            _decoder(), labelled, settings=settings, device=CPU, unlabelled=unlabelled, resume=resume, on_step=stop
        )
    assert losses(unlabelled=unlabelled, resume=resume) == taught[3:]


def test_without_a_rate_of_its_own_what_comes_before_the_decoder_stays(label_map: NDArray[np.uint8]) -> None:
    before = _weights(_decoder())
    frozen = tune_decoder(
        _decoder(), _labelled(label_map, "a"), settings=replace(SETTINGS, early=0), device=CPU
    ).decoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], frozen[name])}
    assert changed
    assert all(name.startswith(("unet.ups", "unet.final_res_block", "head")) for name in changed)
    slower = tune_decoder(_decoder(), _labelled(label_map, "a"), settings=SETTINGS, device=CPU).decoder.state_dict()
    assert not torch.equal(before["unet.init_conv.weight"], slower["unet.init_conv.weight"])


def test_nothing_labelled_is_refused(label_map: NDArray[np.uint8]) -> None:
    nothing = LabelledPictures([COLOURS[label_map]], [np.full_like(label_map, 255)], ["a"])
    with pytest.raises(LabelError, match="no pixel of the 1 training crops is labelled"):
        tune_decoder(_decoder(), nothing, settings=SETTINGS, device=CPU)


def test_parts_without_a_label_change_nothing(label_map: NDArray[np.uint8]) -> None:
    decoder = _decoder()
    before = _weights(decoder)
    state, weights = tune._new_state(decoder, SETTINGS, CPU), class_weights([label_map], 3)
    assert tune._update(state, (torch.zeros(1, 3, 8, 8), torch.full((1, 8, 8), 255)), weights, SETTINGS) == 0.0
    torch.testing.assert_close(_weights(decoder), before, atol=0, rtol=0)


def test_unlabelled_slides_teach_also_when_a_step_drew_no_label(label_map: NDArray[np.uint8]) -> None:
    decoder, crop = _decoder(), to_input(COLOURS[label_map][None, :16, :16])[0]
    before = _weights(decoder)
    state, weights = tune._new_state(decoder, SETTINGS, CPU), class_weights([label_map], 3)
    state.step = 3  # of 4: full weight
    taught = tune._MeanTeacher(UnlabelledParts(Unlabelled(lambda _: crop, 1.0), batch=2, seed=0), 1.0)
    nothing = torch.zeros(1, 3, 8, 8), torch.full((1, 8, 8), 255)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mean_teacher, "CONFIDENT", 0.0)
        assert tune._update(state, nothing, weights, SETTINGS, taught) == 0.0
    assert not torch.equal(before["head.weight"], _weights(decoder)["head.weight"])


def test_a_nan_loss_ends_the_tuning_before_the_weights_are_changed(label_map: NDArray[np.uint8]) -> None:
    decoder = _decoder()
    state, weights = tune._new_state(decoder, SETTINGS, CPU), torch.tensor([1.0, np.inf, 1.0])
    before, part = _weights(decoder), (torch.zeros(1, 3, 8, 8), torch.ones((1, 8, 8), dtype=torch.int64))
    with pytest.raises(CheckpointError, match=r"^decoder: the loss of step 1 is not finite\. .* decoder\.rate is too"):
        tune._update(state, part, weights, SETTINGS)
    torch.testing.assert_close(_weights(decoder), before, atol=0, rtol=0)


def test_a_fifth_of_the_slides_is_held_out(label_map: NDArray[np.uint8]) -> None:
    slides = [f"s{i % 10}" for i in range(30)]
    held = held_out_slides(_labelled(label_map, *slides), seed=0)
    assert len(held) == 2
    assert set(held) < set(slides)
    assert held == held_out_slides(_labelled(label_map, *slides[::-1]), seed=0)
    assert {held_out_slides(_labelled(label_map, *slides), seed=seed) for seed in range(20)} > {held}
    assert held_out_slides(_labelled(label_map, *list("abcdefghi") * 3), seed=0) == ()


def test_slides_without_a_label_are_not_held_out(label_map: NDArray[np.uint8]) -> None:
    nothing = np.full_like(label_map, 255)
    for seed in range(10):
        crops = LabelledPictures([COLOURS[label_map]] * 20, [label_map] * 10 + [nothing] * 10, list(TWENTY))
        held = held_out_slides(crops, seed=seed)
        assert len(held) == 2
        assert set(held) < set(TWENTY[:10])
    nine = LabelledPictures([COLOURS[label_map]] * 10, [label_map] * 9 + [nothing], list(TWENTY[:10]))
    tuned = tune_decoder(_decoder(), nine, settings=replace(SETTINGS, early_stopping=True), device=CPU)
    assert (tuned.step, tuned.held_out) == (SETTINGS.steps, ())


def test_crops_of_no_slide_are_not_held_out(label_map: NDArray[np.uint8]) -> None:
    def labelled(slides: list[str | None]) -> LabelledPictures:
        return LabelledPictures([COLOURS[label_map]] * len(slides), [label_map] * len(slides), slides)

    real: list[str | None] = list(TWENTY[:10])
    assert held_out_slides(labelled([*real, None, None]), seed=0) == held_out_slides(labelled(real), seed=0)
    assert held_out_slides(labelled([*real[:9], None]), seed=0) == ()


def test_the_only_slide_of_a_class_is_used_for_training(label_map: NDArray[np.uint8]) -> None:
    without = np.where(label_map == 2, 1, label_map).astype(np.uint8)
    slides, pictures, seed = list(TWENTY[:10]), [COLOURS[label_map]] * 10, 3
    rare, other = held_out_slides(_labelled(label_map, *slides), seed=seed)
    maps = [label_map if slide == rare else without for slide in slides]
    instead = held_out_slides(LabelledPictures(pictures, maps, slides), seed=seed)
    assert len(instead) == 2
    assert other in instead
    assert rare not in instead
    each = [np.full_like(label_map, number) for number in range(10)]  # a class of its own on every slide
    assert held_out_slides(LabelledPictures(pictures, each, slides), seed=seed) == ()
    maps = [without if slide == rare else label_map for slide in slides]
    assert held_out_slides(LabelledPictures(pictures, maps, slides), seed=seed) == (rare, other)


def test_few_crops_take_fewer_steps(label_map: NDArray[np.uint8]) -> None:
    half = label_map.copy()
    half[:, :10] = 255
    labelled = LabelledPictures([COLOURS[label_map]] * 2, [label_map, half], ["a", "b"])
    settings = replace(SETTINGS, steps=3000, passes=500.0)  # 500 * (480 + 240) / (2 * 16 * 16) is 703.1
    assert steps_of(labelled, settings) == 704
    assert steps_of(labelled, replace(settings, steps=600)) == 600
    assert steps_of(labelled, replace(settings, passes=1.0)) == 400
    assert steps_of(labelled, replace(settings, passes=1.0, steps=30)) == 30


def test_small_crops_take_as_many_passes_as_large_ones() -> None:
    small = np.zeros((40, 48), np.uint8)  # parts of 40 px, not 96: 900 * 2 * 1920 / (2 * 40 * 40) is 1080
    labelled = LabelledPictures([COLOURS[small]] * 2, [small] * 2, ["a", "b"])
    assert steps_of(labelled, replace(SETTINGS, steps=3000, passes=900.0, size_px=96)) == 1080


def test_pixels_of_held_out_slides_do_not_count_as_trained_on(label_map: NDArray[np.uint8]) -> None:
    labelled = _labelled(label_map, *TWENTY[:10])
    settings = replace(SETTINGS, steps=3000, passes=100.0)  # 100 * 10 * 480 / (2 * 16 * 16) is 937.5
    assert steps_of(labelled, settings) == 938
    assert steps_of(labelled, replace(settings, early_stopping=True)) == 750  # two of ten slides are held out


def test_a_tuning_ends_with_its_passes(label_map: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "MIN_STEPS", 2)
    steps: list[int] = []
    tuned = tune_decoder(
        _decoder(),
        _labelled(label_map, "a"),
        settings=replace(SETTINGS, steps=9, passes=3.0),  # 3 * 480 / 512 is 2.8
        device=CPU,
        on_step=lambda step, _loss: steps.append(step),
    )
    assert steps == [1, 2, 3]
    assert tuned.step == 3


def test_held_out_slides_decide_which_weights_are_kept(
    label_map: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[set[str]] = []
    losses = iter([0.9, 0.4, 0.7, 0.5])
    kept: list[dict[str, torch.Tensor]] = []

    def loss_of(decoder: Decoder, crops: LabelledPictures, *_: object) -> float:
        judged.append(set(crops.slides))
        kept.append(_weights(decoder))
        return next(losses)

    monkeypatch.setattr(tune, "_loss_of", loss_of)
    labelled = _labelled(label_map, *TWENTY[:10])
    tuned = tune_decoder(_decoder(), labelled, settings=replace(SETTINGS, early_stopping=True), device=CPU)
    assert judged == [set(tuned.held_out)] * 4
    assert tuned.step == 2
    kept[1]["head.bias"] -= class_weights([label_map], 3).log()  # which was taken back
    torch.testing.assert_close(_weights(tuned.decoder), kept[1], atol=0, rtol=0)


def test_without_early_stopping_no_slide_is_held_out(
    label_map: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = labelled_training.PartDraw

    def counted(pictures: list[NDArray[np.uint8]], *args: object, **settings: object) -> object:
        drawn.append(len(pictures))
        return draw(pictures, *args, **settings)  # type: ignore[arg-type] # passed on as they are

    monkeypatch.setattr(labelled_training, "PartDraw", counted)
    tuned = tune_decoder(_decoder(), _labelled(label_map, *TWENTY), settings=SETTINGS, device=CPU)
    assert (tuned.step, tuned.held_out) == (SETTINGS.steps, ())
    assert drawn == [20]


def test_the_loss_of_crops_is_the_weighted_mean_over_their_labelled_pixels(label_map: NDArray[np.uint8]) -> None:
    half = label_map.copy()
    half[:, :10] = 255
    crops = LabelledPictures([COLOURS[label_map], COLOURS[label_map][:9]], [half, half[:9]], ["a", "b"])
    weights, decoder = torch.tensor([0.2, 0.5, 1.0]), _decoder().eval()
    total, weight = 0.0, 0.0
    with torch.no_grad():
        for picture, ids in zip(crops.pictures, crops.label_maps, strict=True):
            logs = decoder(to_input(picture[None])).log_softmax(1)[0]
            for y, x in np.argwhere(ids != 255).tolist():
                total -= float(logs[ids[y, x], y, x] * weights[ids[y, x]])
                weight += float(weights[ids[y, x]])
    assert tune._loss_of(decoder, crops, weights, "no") == pytest.approx(total / weight, rel=1e-4)


def test_a_class_that_was_never_shown_is_never_predicted(label_map: NDArray[np.uint8]) -> None:
    without = np.where(label_map == 2, 255, label_map).astype(np.uint8)
    labelled = LabelledPictures([COLOURS[label_map]], [without], ["a"])
    tuned = tune_decoder(_decoder(), labelled, settings=SETTINGS, device=CPU)
    with torch.no_grad():
        probabilities = tuned.decoder(to_input(COLOURS[label_map][None])).softmax(1)
    assert (probabilities[:, 2] == 0).all()


def test_a_tuning_that_was_interrupted_ends_as_if_it_had_not_been(label_map: NDArray[np.uint8], tmp_path: Path) -> None:
    labelled, resume = _labelled(label_map, *TWENTY[:10]), Resume(tmp_path / "unfinished", {"labels": "12ab"})
    stopped = replace(SETTINGS, early_stopping=True)
    whole = tune_decoder(_decoder(), labelled, settings=stopped, device=CPU)
    steps: list[int] = []

    def interrupt(step: int, _loss: float) -> None:
        steps.append(step)
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        tune_decoder(_decoder(), labelled, settings=stopped, device=CPU, resume=resume, on_step=interrupt)
    again = tune_decoder(_decoder(), labelled, settings=stopped, device=CPU, resume=resume, on_step=interrupt)
    assert steps == [1, 2, 3, 4]
    assert again.step == whole.step
    torch.testing.assert_close(_weights(again.decoder), _weights(whole.decoder), atol=0, rtol=0)
    assert not resume.folder.exists()
