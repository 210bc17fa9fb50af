"""IoU against crops seen by the diffusion model, everything else equal.

    python tests/benchmarks/base_curve.py RECIPE CHECKPOINTS_FOLDER [section.key=value ...] [--out NAME]

For untrained weights and for each checkpoint in the folder (a run's ``ddpm`` folder whose milestones were kept), the
recipe's interpreters are trained on its labelled crops and scored on its test crops. The labels must have been
imported. Writes results/NAME.json, .md and .png beside this file (NAME defaults to base_curve) after each checkpoint;
checkpoints that are in the JSON file are skipped.
"""

import argparse
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from typer.testing import CliRunner

from cytoseg.checkpoints import crops_seen_of, find_checkpoints
from cytoseg.cli import build_app
from cytoseg.diffusion.state import save
from cytoseg.diffusion.train_steps import new_state
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.runs import versions
from cytoseg.workflows.training_crops import settings_of

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure every checkpoint that has not been measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("folder", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--out", default="base_curve")
    options = parser.parse_args()
    name, overrides = options.recipe, options.overrides
    recipe = load_recipe(name, overrides)
    path = RESULTS / f"{options.out}.json"
    about = " ".join([recipe.name, *overrides])
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"points": {}, "recipe": about}
    if results["recipe"] != about:
        raise SystemExit(f"{path}: of {results['recipe']}, not of {about}. Give another --out.")
    with tempfile.TemporaryDirectory() as temporary:
        untrained = save(Path(temporary), new_state(recipe.architecture(), settings_of(recipe)), recipe={})
        for checkpoint in [untrained, *reversed(find_checkpoints(options.folder))]:
            seen = str(crops_seen_of(checkpoint))
            if seen not in results["points"]:
                results["points"][seen] = score(name, recipe, checkpoint, overrides)
                results |= {
                    "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
                }
                results["versions"] = versions()
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(results, indent=1) + "\n")
                path.with_suffix(".md").write_text(table(results))
                draw(results, path.with_suffix(".png"))


def score(name: str, recipe: Recipe, checkpoint: Path, overrides: list[str]) -> dict[str, Any]:
    """Train the interpreters on one checkpoint's features and score them; return the IoU and interval of each class."""
    with tempfile.TemporaryDirectory() as run:
        (Path(run) / "ddpm").mkdir()
        (Path(run) / "ddpm" / checkpoint.name).symlink_to(checkpoint.resolve())
        again = [*overrides, f"folder={run}", f"labels.folder={recipe.labels_folder()}"]
        command("train-interpreter", name, *again)
        command("evaluate", name, "--no-baseline", *again)
        method = json.loads((Path(run) / "evaluation" / "evaluation.json").read_text())["methods"][0]
    return {c["name"]: [round(c[key], 4) for key in ("iou", "iou_low", "iou_high")] for c in method["classes"]}


def command(*arguments: str) -> None:
    """Run a command in this process."""
    result = CliRunner().invoke(build_app(arguments[0]), list(arguments))
    if result.exit_code:
        raise SystemExit(result.output) from result.exception


def table(results: dict[str, Any]) -> str:
    """Write the points as a table."""
    classes = list(next(iter(results["points"].values())))
    lines = [f"| crops seen | {' | '.join(classes)} |", "|---" * (len(classes) + 1) + "|"]
    for seen, point in sorted(results["points"].items(), key=lambda item: int(item[0])):
        cells = [f"{iou:.3f} ({low:.3f}-{high:.3f})" for iou, low, high in point.values()]
        lines.append(f"| {int(seen):,} | {' | '.join(cells)} |")
    about = f"IoU with 95 % interval over slides; recipe {results['recipe']}, {results['machine']}"
    return "\n".join([about, "", *lines, "", f"Versions: {results['versions']}", ""])


def draw(results: dict[str, Any], path: Path) -> None:
    """Plot IoU against crops seen, a line for each class."""
    points = sorted((int(seen), point) for seen, point in results["points"].items())
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name in points[0][1]:
        iou, low, high = zip(*(point[name] for _, point in points), strict=True)
        seen = [max(1, count) for count, _ in points]
        axes.plot(seen, iou, marker="o", label=name)
        axes.fill_between(seen, low, high, alpha=0.15)
    axes.set(
        xlabel="crops seen by the diffusion model (1: none)", ylabel="IoU on test slides", xscale="symlog", ylim=(0, 1)
    )
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
