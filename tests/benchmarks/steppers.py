"""One kind of training step in a separate process, which takes steps on request; started by train_step.py.

A job is passed as JSON. Each line on stdin is a number of steps to take; the answer is a line of JSON after ``@``.
"""

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import memory_mb

from cytoseg.allocator import tune_cpu_allocator
from cytoseg.diffusion.import_lucidrains import GaussianDiffusion
from cytoseg.diffusion.train_steps import new_accelerator, new_state, train_steps
from cytoseg.diffusion.unet import build_unet
from cytoseg.recipe import Recipe, load_recipe
from cytoseg.workflows.training_crops import settings_of, tissue_crops, training_crops

LEAST_EFFECTIVE_BATCH = 16  # the Trainer's minimum
NEVER = 10**9
DIM_MULTS = {"lucidrains": (1, 2, 4, 8), "pretrained": (3, 4, 6)}

RECIPE = """
name: benchmark
slides: {{folders: ["{folder}"], background: {{rule: none}}}}
crops: {{size_px: {size_px}}}
diffusion: {{backbone: {backbone}, dim: {dim}, dim_mults: {dim_mults}}}
training: {{crops: 100000000, batch: {batch}, precision: "{precision}", workers: {workers}, device: {device}}}
classes: [{{name: background, colour: "#ffffff"}}, {{name: cell, colour: "#000000"}}]
"""


@dataclass(frozen=True)
class Job:
    """What to train: ``step`` is ``cytoseg`` or ``trainer``; ``tuned`` sets the allocator as ``train-ddpm`` does."""

    step: str
    folder: str
    dim: int
    size_px: int
    batch: int
    precision: str
    workers: int
    device: str
    tuned: bool
    backbone: str = "lucidrains"

    def recipe(self) -> Recipe:
        """Return the recipe as the command would load it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "benchmark.yaml"
            path.write_text(RECIPE.format(**vars(self), dim_mults=list(DIM_MULTS[self.backbone])))
            return load_recipe(str(path))


def our_steps(job: Job) -> Callable[[int], None]:
    """cytoseg's loop, set up as in ``cytoseg train-ddpm``."""
    recipe = job.recipe()
    settings, device = settings_of(recipe), torch.device(job.device)
    crops = training_crops(recipe, tissue_crops(recipe))(0)
    accelerator = new_accelerator(settings, device)
    steps = iter(
        train_steps(new_state(recipe.architecture(), settings), crops, settings=settings, accelerator=accelerator)
    )

    def take(count: int) -> None:
        for _ in range(count):
            next(steps)

    return take


def trainer_steps(job: Job) -> Callable[[int], None]:
    """The package's Trainer on the same network, without its FID and its samples."""
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import Trainer  # the import above repairs torchvision

    architecture = job.recipe().architecture()
    process = GaussianDiffusion(
        build_unet(architecture),
        image_size=job.size_px,
        timesteps=architecture.timesteps,
        beta_schedule=architecture.schedule,
        objective=architecture.objective,
    )
    trainer = Trainer(
        process,
        job.folder,
        train_batch_size=job.batch,
        gradient_accumulate_every=-(-LEAST_EFFECTIVE_BATCH // job.batch),
        train_num_steps=0,
        save_and_sample_every=NEVER,
        num_samples=1,
        results_folder=tempfile.mkdtemp(prefix="cytoseg-trainer-"),
        amp=job.precision == "bf16",
        mixed_precision_type="bf16",
        calculate_fid=False,
    )
    trainer.gradient_accumulate_every = 1  # one step is then one batch, as in cytoseg

    def take(count: int) -> None:
        trainer.train_num_steps += count
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            trainer.train()

    return take


def answer(job: Job, take: Callable[[int], None], count: int) -> dict[str, Any]:
    """Take steps; return wall-clock and CPU seconds per step, and the peak memory so far."""
    cuda = job.device == "cuda"
    begin, cpu = time.perf_counter(), time.process_time()
    take(count)
    if cuda:
        torch.cuda.synchronize()
    return {
        "s": (time.perf_counter() - begin) / count,
        "cpu_s": (time.process_time() - cpu) / count,
        "peak_mb": torch.cuda.max_memory_allocated() / 2**20 if cuda else memory_mb("VmHWM"),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Set up the step, then take steps on request."""
    job = Job(**json.loads(sys.argv[1]))
    if job.tuned:
        tune_cpu_allocator()
    take = {"cytoseg": our_steps, "trainer": trainer_steps}[job.step](job)
    for line in sys.stdin:
        print("@" + json.dumps(answer(job, take, int(line))), flush=True)


if __name__ == "__main__":
    main()
