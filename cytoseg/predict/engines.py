"""Predicting many slides: by several processes of this machine, or by Ray on one machine or many.

Each slide is one piece of work. One that dies with its process is begun again by another, which goes on from the last
finished row.
"""

import multiprocessing
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

import torch

from cytoseg.errors import PredictionError
from cytoseg.predict.job import Outcome, SlideJob, attempt

TRIES = 3
"""How often a slide is begun whose process dies."""

ANSWER_S = 10.0
"""How long a cluster may take to answer."""

_PLACE = re.compile(r"(?P<host>[^/:]+):(?P<port>\d+)$")
_GPU: list[str] = []
"""Of this process, if there is one GPU for each."""


def in_processes(
    jobs: Sequence[SlideJob], *, workers: int, work: Callable[[SlideJob], Outcome] = attempt
) -> Iterator[Outcome]:
    """Predict slides with several processes of this machine.

    Args:
        jobs: The slides.
        workers: Processes. On GPUs the first takes ``cuda:0``, the second ``cuda:1``, and so on, over and over.
        work: What a process does with a slide.

    Yields:
        What became of each slide, as they end.
    """
    left = list(jobs)
    for _ in range(TRIES):
        for outcome in _round(left, workers, work):
            left.remove(outcome.job)
            yield outcome
        if not left:
            return
    for job in left:
        yield Outcome(job, f"{job.path.name}: the process died {TRIES} times. Is there memory enough for --workers?")


def _round(jobs: Sequence[SlideJob], workers: int, work: Callable[[SlideJob], Outcome]) -> Iterator[Outcome]:
    """Give what ends until a process dies, which ends them all."""
    # Spawned, not forked: a fork would take over torch's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    numbers = context.SimpleQueue()
    for number in range(workers):
        numbers.put(number)
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ProcessPoolExecutor(workers, context, _begin, (numbers, threads)) as pool:
        try:
            for future in as_completed([pool.submit(_on_this_gpu, work, job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool:
            return
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(numbers: Any, threads: int) -> None:
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        _GPU.append(f"cuda:{numbers.get() % torch.cuda.device_count()}")


def _on_this_gpu(work: Callable[[SlideJob], Outcome], job: SlideJob) -> Outcome:
    outcome = work(replace(job, device=_GPU[0]) if _GPU and job.device != "cpu" else job)
    return replace(outcome, job=job)


def on_ray(
    jobs: Sequence[SlideJob], *, address: str | None, work: Callable[[SlideJob], Outcome] = attempt
) -> Iterator[Outcome]:
    """Predict slides as Ray tasks, one slide each; Ray begins a task again whose process or machine dies.

    All machines must see slides, bundle and results under the same paths, and have the same cytoseg installed.

    Args:
        jobs: The slides.
        address: Of a running cluster (``auto``, ``ray://host:10001``), or None to start Ray on this machine.
        work: What a task does with a slide.

    Yields:
        What became of each slide, as they end.

    Raises:
        PredictionError: If Ray is not installed or the cluster does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise PredictionError("--engine ray needs Ray: pip install 'cytoseg[cluster]'.") from error
    try:
        if place := _PLACE.search(address or ""):  # Ray itself would try for minutes
            socket.create_connection((place["host"], int(place["port"])), timeout=ANSWER_S).close()
        ray.init(address=address, include_dashboard=False if address is None else None, log_to_driver=False)
    except (OSError, ValueError) as error:
        raise PredictionError(f"--address {address}: no Ray cluster answers there ({error}).") from error
    try:
        gpus = 0 if jobs[0].device == "cpu" else 1
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=TRIES - 1)(work)
        waiting = {task.remote(job): job for job in jobs}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(done)
            try:
                yield ray.get(done)
            except ray.exceptions.RayError as error:
                lines = str(error).splitlines()
                yield Outcome(job, f"{job.path.name}: the process died {TRIES} times ({lines[0] if lines else error}).")
    finally:
        ray.shutdown()
