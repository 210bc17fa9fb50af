"""``cytoseg edit``: a crop redrawn so that it shows an edited class map."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from cytoseg.classes import IGNORE
from cytoseg.devices import generator_for, pick_device, tune_cpu_allocator
from cytoseg.diffusion.grey import as_channels
from cytoseg.diffusion.redraw import redraw
from cytoseg.diffusion.schedule import alpha_bar
from cytoseg.diffusion.state import load_backbone
from cytoseg.errors import CytosegError, LabelError
from cytoseg.features.extract import pad_to_multiple, to_input
from cytoseg.interpreter.bundle import Bundle, EnsemblePredictor, load_bundle
from cytoseg.interpreter.guide import guide_to_map, refuse_without_gradient
from cytoseg.slides.image import read_picture
from cytoseg.workflows.edited_map import changed_region, read_map
from cytoseg.workflows.recorded_command import (
    Overrides,
    RecipeArgument,
    Run,
    progress,
    refuse_other_classes,
    say,
    start_run,
)
from cytoseg.workflows.run_paths import BUNDLE
from cytoseg.writing import atomic_path

Picture = NDArray[np.uint8]


def run(
    recipe: RecipeArgument,
    crop: Annotated[Path, typer.Argument(help="The picture to edit.")],
    wanted: Annotated[
        Path, typer.Option("--map", help="What it shall show: a labelme file, or an image of class ids.")
    ],
    overrides: Overrides = None,
    before: Annotated[
        Path | None, typer.Option("--before", help="The map before editing; default the interpreter's prediction.")
    ] = None,
    strength: Annotated[
        float,
        typer.Option("--strength", min=0.05, max=1.0, help="How much may change: small keeps more of the picture."),
    ] = 0.8,
    scale: Annotated[float, typer.Option("--scale", min=0.0, help="How strongly the map is obeyed.")] = 0.3,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Network evaluations.")] = 50,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed draws other cells.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="PNG to write; default edited/ in the run folder.")] = None,
) -> None:
    """Redraw a part of a picture so that it shows an edited class map.

    Where the map was changed, and 4 px around it, the run's diffusion model redraws, steered by the run's
    interpreter; every byte outside stays as it was. The file says in its PNG text that it is made.
    """
    with start_run(recipe, overrides, command="edit") as current:
        bundle = load_bundle(current.folder / BUNDLE)
        refuse_without_gradient(bundle, command="edit")
        refuse_other_classes(bundle.classes.names, current.recipe, command="edit")
        device = pick_device(current.recipe.training.device)
        if device.type == "cpu":
            tune_cpu_allocator()
        predict = EnsemblePredictor(bundle, device=device)
        picture = read_picture(crop, name=crop.name)
        after = read_map(wanted, bundle.classes, picture.shape[:2])
        now = _class_map(predict, picture)
        region = changed_region(now if before is None else read_map(before, bundle.classes, picture.shape[:2]), after)
        if not region.any():
            raise LabelError(f"{wanted.name}: the map shows what {crop.name} shows already. Change it somewhere.")
        drawn = _drawn(current, bundle, (picture, after, region), _Options(strength, scale, steps, seed), device)
        target = out or current.folder / "edited" / f"{crop.stem}_{seed}.png"
        _save(target, drawn, f"Edited by a diffusion model, not a patient's: {crop.name}, seed {seed}.")
        shares = [float((shown == after)[region].mean()) for shown in (now, _class_map(predict, drawn))]
        current.entry.update(edited=str(target), agreement_before=shares[0], agreement=shares[1])
        say(
            f"Redrew {region.mean():.1%} of {crop.name}. There the interpreter agrees with the map on {shares[1]:.0%} "
            f"of the pixels, {shares[0]:.0%} before. See {target}."
        )


@dataclass(frozen=True)
class _Options:
    strength: float
    scale: float
    steps: int
    seed: int


def _drawn(
    current: Run,
    bundle: Bundle,
    asked: tuple[Picture, Picture, NDArray[np.bool_]],
    options: _Options,
    device: torch.device,
) -> Picture:
    """Redraw the region of a picture, (H, W, 3) uint8; bytes outside are the picture's."""
    recipe = current.recipe
    picture, after, region = asked
    unet, architecture, _ = load_backbone(current.folder / "ddpm", recipe.architecture())
    unet.to(device)
    whole = as_channels(to_input(picture[None]), recipe.diffusion.channels)
    padded = pad_to_multiple(whole, architecture.multiple_px).to(device)
    height, width = padded.shape[-2:]
    inside = _padded(region, height, width, fill=False).to(device)
    bars, objective = alpha_bar(recipe.diffusion.schedule, recipe.diffusion.timesteps), recipe.diffusion.objective
    guide = guide_to_map(
        bundle,
        torch.where(inside, _padded(after, height, width, fill=0).to(device).long(), IGNORE),
        unet,
        scale=options.scale,
        alpha_bars=bars,
        objective=objective,
    )
    generator = generator_for(options.seed, 0, what="edit")
    with progress("edit", options.steps) as bar:
        found = redraw(
            unet,
            padded,
            inside,
            noises=iter(lambda: torch.randn(padded.shape, generator=generator), None),
            alpha_bars=bars,
            objective=objective,
            strength=options.strength,
            steps=options.steps,
            guide=guide,
            on_step=bar.at,
        )
    if not bool(found.isfinite().all()):
        raise CytosegError("edit: the diffusion model drew no valid picture. Train it longer, or lower --scale.")
    pixels = ((as_channels(found, 3)[0] + 1.0) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    drawn: Picture = np.where(region[..., None], pixels[: picture.shape[0], : picture.shape[1]], picture)
    return drawn


def _padded(values: NDArray[Any], height: int, width: int, *, fill: int) -> Tensor:
    below, right = height - values.shape[0], width - values.shape[1]
    return torch.from_numpy(np.pad(values, ((0, below), (0, right)), constant_values=fill))


def _class_map(predict: EnsemblePredictor, picture: Picture) -> Picture:
    class_map: Picture = predict(picture[None])["probabilities"][0].argmax(0).astype(np.uint8)
    return class_map


def _save(path: Path, picture: Picture, note: str) -> None:
    text = PngInfo()
    text.add_text("Comment", note)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", pnginfo=text)
