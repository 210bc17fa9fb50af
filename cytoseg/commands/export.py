"""``cytoseg export``: averaged weights with a model card."""

import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cytoseg.checkpoints import MISFIT, crops_seen_of, find_checkpoints, load_state
from cytoseg.diffusion.state import export_averaged
from cytoseg.drawing.pictures import is_noise_file
from cytoseg.errors import CheckpointError
from cytoseg.leftovers import sweep_beside
from cytoseg.runs import read_metrics
from cytoseg.terminal import say
from cytoseg.workflows.recorded_command import Overrides, RecipeArgument, Run, start_run
from cytoseg.workflows.run_paths import BUNDLE

LOSS_CROPS = 10_000
"""The card's losses are means over this many crops: those of a single step are noisy."""
_PICTURES = ("samples.png", "denoised.png")


def run(
    recipe: RecipeArgument,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new folder.")],
    overrides: Overrides = None,
) -> None:
    """Write the averaged weights of the newest checkpoint in half precision, with a model card and its images.

    Others start from it with: cytoseg train-ddpm THEIRS --init FOLDER. Add the slides and their licence to the card by
    hand: the program does not know them.
    """
    with start_run(recipe, overrides, command="export") as current:
        ddpm = current.folder / "ddpm"
        found = find_checkpoints(ddpm)
        if not found:
            raise CheckpointError(f"{ddpm}: no checkpoint yet{_instead(current)}.")
        if not load_state(found[0]).get("recipe"):
            raise CheckpointError(
                f"{found[0]}: written by an older version, without its recipe. Continue its training with --resume."
            )
        sweep_beside(folder)
        _refuse_existing(folder)
        _card(current.recipe.name, load_state(found[0]), found[0], ())  # check before anything is written
        pictures = [name for name in _PICTURES if (ddpm / name).exists() and not is_noise_file(ddpm / name)]

        def add(new: Path) -> None:
            _refuse_existing(folder)  # checked again: another export may have been quicker
            for name in pictures:
                shutil.copyfile(ddpm / name, new / name)
            card = _card(current.recipe.name, load_state(new), found[0], pictures)
            (new / "README.md").write_text(card, encoding="utf-8")

        state = export_averaged(found[0], folder, add=add)
        size_mb = (folder / "ema.safetensors").stat().st_size / 1e6
        current.entry.update(checkpoint=found[0].name, size_mb=round(size_mb, 1))
        say(f"{folder}: {size_mb:.1f} MB, after {state['crops_seen']} crops. Describe the slides in its README.md.")


def _instead(current: Run) -> str:
    """Say what to do in a run without a diffusion model of its own."""
    init = current.recipe.training.init
    if init is None:
        return ". Run `cytoseg train-ddpm` with this recipe first"
    return (
        f", the features are those of {init} as it is. To share the trained interpreter, copy "
        f"{current.folder / BUNDLE}; to export a diffusion model, train one with `cytoseg train-ddpm`"
    )


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise CheckpointError(f"{folder}: already exists, perhaps with a hand-written model card. Remove it first.")


def _card(name: str, state: Mapping[str, Any], checkpoint: Path, pictures: Sequence[str]) -> str:
    try:
        rows = read_metrics(checkpoint.parent / "metrics.jsonl")
        seen = [row for row in rows if row["crops_seen"] <= crops_seen_of(checkpoint)]
        return model_card(name, state, seen, pictures)
    except MISFIT as error:
        found = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"{checkpoint}: its training record or metrics.jsonl is damaged ({found}). Continue with --resume."
        ) from error


def model_card(name: str, state: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], pictures: Sequence[str]) -> str:
    """Write a model card in Markdown: architecture, training and losses.

    Args:
        name: Name of the model.
        state: The JSON state of its checkpoint, including the recipe.
        rows: Rows of ``metrics.jsonl``.
        pictures: File names beside the card.
    """
    network, recipe, versions = state["architecture"], state["recipe"], state["versions"]
    began = state.get("started_from")
    facts = {
        "network": f"{network['backbone']}, dim {network['dim']}, multipliers {network['dim_mults']}" + _task(network),
        "process": f"T = {network['timesteps']}, {network['schedule']} schedule, {network['objective']}",
        "trained on": f"{state['crops_seen']:,} crops of {recipe['crops']['size_px']} px, "
        f"{recipe['training']['batch']} a step, rate {recipe['training']['rate']}",
        "slides": ", ".join(recipe["slides"]["folders"]),
        "started from": f"{began['path']}, sha256 `{began['sha256']}`, which had its own slides"
        if began
        else "nothing",
        "weights": f"averaged (decay {recipe['training']['ema_decay']}), fp16, sha256 `{state['sha256']['ema']}`",
        "made with": ", ".join(f"{package} {version}" for package, version in versions.items()),
    }
    parts = [
        f"# {name}\n\nA diffusion model trained by cytoseg. Start from it with",
        "```sh\ncytoseg train-ddpm RECIPE --init FOLDER\n```",
        "\n".join(["| | |", "|---|---|", *(f"| {fact} | {text} |" for fact, text in facts.items())]),
        f"Mean loss of the last {LOSS_CROPS:,} crops (an untrained network has about 1):\n\n{_losses(rows)}",
        f"Samples get their colours at high t. {_late_loss(rows, network['timesteps'])}",
        "## Data and licence\n\nNot stated.",
        "## Limits\n\nNot stated.",
        *(f"![{picture.removesuffix('.png')}]({picture})" for picture in pictures),
    ]
    return "\n\n".join(parts) + "\n"


def _task(network: Mapping[str, Any]) -> str:
    return f"; enlarges small images {network['upsample']} times" if network.get("upsample", 1) > 1 else ""


def _late_loss(rows: Sequence[Mapping[str, Any]], timesteps: int) -> str:
    first = timesteps * 9 // 10
    by_t = _last_by_t(rows)
    late = [loss for name, losses in by_t.items() if name != "all" and _first_t(name) >= first for loss in losses]
    found = f"{statistics.fmean(late):.6f}" if late else "not recorded"
    return f"Loss at t >= {first}: {found}."


def _first_t(name: str) -> int:
    return int(name.split("-")[0])


def _last_by_t(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    last = [row for row in rows if row["crops_seen"] > rows[-1]["crops_seen"] - LOSS_CROPS]
    by_t: dict[str, list[float]] = {}
    for row in last:
        by_t.setdefault("all", []).append(row["loss"])
        for name, loss in row.get("by_t", {}).items():
            by_t.setdefault(name, []).append(loss)
    return by_t


def _losses(rows: Sequence[Mapping[str, Any]]) -> str:
    by_t = _last_by_t(rows)
    names = sorted(by_t, key=lambda name: -1 if name == "all" else _first_t(name))
    if not names:
        return "Not recorded."
    cells = [f"{statistics.fmean(by_t[name]):.4f}" for name in names]
    return f"| t | {' | '.join(names)} |\n{'|---' * (len(names) + 1)}|\n| loss | {' | '.join(cells)} |"
