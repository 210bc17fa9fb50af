"""Predicting many slides with processes or Ray.

Each slide is one task. If its process dies, another one retries the slide from the last finished row.
"""

import contextlib
import multiprocessing
import os
import re
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

import torch

from cytoseg.errors import PredictionError
from cytoseg.interrupts import end_signals_as_ctrl_c, exit_with_parent
from cytoseg.predict.slide_task import Outcome, SlideTask, attempt

TRIES = 3
"""Attempts for a slide whose process dies."""

ANSWER_S = 10.0
"""Timeout of a cluster in seconds."""

_PLACE = re.compile(r"(?P<host>[^/:]+):(?P<port>\d+)$")
_GPU: list[str] = []
"""GPU of this worker process, if any."""


def in_processes(
    tasks: Sequence[SlideTask], *, workers: int, work: Callable[[SlideTask], Outcome] = attempt
) -> Iterator[Outcome]:
    """Predict slides with several processes on this machine.

    When one process dies, the pool loses all. It is unknown which slide caused it, so the slides in progress are
    postponed until the others are done and then retried one at a time.

    Args:
        tasks: The slides.
        workers: Number of processes. GPUs are assigned round-robin: ``cuda:0``, ``cuda:1``, ...
        work: Function applied to a task.

    Yields:
        The outcome of each slide, in order of completion.
    """
    left, suspects = deque(tasks), []
    while left:
        for task, outcome in _until_one_dies(left, workers, work):
            if outcome is None:
                suspects.append(task)
            else:
                yield outcome
    for task in suspects:
        yield _alone(task, work)


def _alone(task: SlideTask, work: Callable[[SlideTask], Outcome]) -> Outcome:
    """Retry a slide whose process died, with no other slide in progress."""
    for _ in range(TRIES - 1):
        ((_, outcome),) = _until_one_dies(deque([task]), 1, work)
        if outcome is not None:
            return outcome
    return Outcome(
        task,
        f"{task.path.name}: the process died {TRIES} times, even when run alone. Is there enough "
        "memory? A smaller predict.tile_px needs less.",
    )


def _until_one_dies(
    left: deque[SlideTask], workers: int, work: Callable[[SlideTask], Outcome]
) -> Iterator[tuple[SlideTask, Outcome | None]]:
    """Process slides from the queue and yield outcomes until a process dies; then None for slides in progress."""
    # Spawned, not forked: a fork would inherit torch's threads in an undefined state.
    context = multiprocessing.get_context("spawn")
    numbers = context.SimpleQueue()
    for number in range(workers):
        numbers.put(number)
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ProcessPoolExecutor(workers, context, _begin, (numbers, threads, os.getpid())) as pool, _ended_together():
        running: dict[Future[Outcome], SlideTask] = {}
        dead = False
        while running or (left and not dead):
            # Never more than there are processes, so that submitted means in progress.
            while left and len(running) < workers and not dead:
                try:
                    running[pool.submit(_on_this_gpu, work, left[0])] = left[0]
                    left.popleft()
                except BrokenProcessPool:
                    dead = True
            # The pool starts to watch its newest process only at the next submission.
            with contextlib.suppress(BrokenProcessPool):
                pool.submit(int)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                outcome = _outcome_of(future)
                dead = dead or outcome is None
                yield running.pop(future), outcome


def _outcome_of(future: Future[Outcome]) -> Outcome | None:
    try:
        return future.result()
    except BrokenProcessPool:
        return None


@contextlib.contextmanager
def _ended_together() -> Iterator[None]:
    """Forward termination to the workers, or the pool would wait for them; a terminal's Ctrl-C reaches all."""
    try:
        yield
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():
            process.terminate()
        raise


def _begin(numbers: Any, threads: int, parent: int) -> None:
    exit_with_parent(parent)
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        _GPU.append(f"cuda:{numbers.get() % torch.cuda.device_count()}")


def _on_this_gpu(work: Callable[[SlideTask], Outcome], task: SlideTask) -> Outcome:
    with end_signals_as_ctrl_c():
        outcome = work(replace(task, device=_GPU[0]) if _GPU and task.device != "cpu" else task)
    return replace(outcome, task=task)


def on_ray(
    tasks: Sequence[SlideTask], *, address: str | None, work: Callable[[SlideTask], Outcome] = attempt
) -> Iterator[Outcome]:
    """Predict slides as Ray tasks, one slide each; Ray retries a task whose process or machine dies.

    All machines need the same absolute paths of slides, bundle and results, and the same version of cytoseg.
    A task takes one GPU if the cluster has any, unless the device is ``cpu``.

    Args:
        tasks: The slides, all for the same device.
        address: Address of a running cluster (``auto``, ``ray://host:10001``), or None to start Ray on this machine.
        work: Function applied to a task.

    Yields:
        The outcome of each slide, in order of completion.

    Raises:
        PredictionError: If Ray is not installed, the cluster does not answer, or it lacks the requested GPU.
    """
    ray = _connected(address)
    try:
        gpus = _gpus_of_a_task(tasks[0].device, ray.cluster_resources())
        submit = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=TRIES - 1)(work).remote
        waiting = {submit(_seen_from_anywhere(task)): task for task in tasks}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            task = waiting.pop(done)
            try:
                yield replace(ray.get(done), task=task)
            except ray.exceptions.RayError as error:
                lines = str(error).splitlines()
                yield Outcome(
                    task, f"{task.path.name}: the process died {TRIES} times ({lines[0] if lines else error})."
                )
    finally:
        ray.shutdown()


def _connected(address: str | None) -> Any:
    """Return the module ``ray``, connected to a cluster."""
    try:
        import ray
    except ImportError as error:
        raise PredictionError("--engine ray needs Ray: pip install 'cytoseg[cluster]'.") from error
    try:
        if place := _PLACE.search(address or ""):  # Ray itself would retry for minutes
            socket.create_connection((place["host"], int(place["port"])), timeout=ANSWER_S).close()
        ray.init(address=address, include_dashboard=False if address is None else None, log_to_driver=False)
    except (OSError, ValueError) as error:
        raise PredictionError(f"--address {address}: no Ray cluster responds there ({error}).") from error
    return ray


def _gpus_of_a_task(device: str, resources: Mapping[str, float]) -> int:
    """Return how many GPUs to request: Ray would wait forever for one that does not exist."""
    there = resources.get("GPU", 0) >= 1
    if device.startswith("cuda") and not there:
        raise PredictionError(f"device {device!r}: the Ray cluster has no GPU. Use training.device=auto or cpu.")
    return int(there and device != "cpu")


def _seen_from_anywhere(task: SlideTask) -> SlideTask:
    """Make paths absolute: a task does not run in this process's folder."""
    return replace(task, path=task.path.absolute(), folder=task.folder.absolute(), bundle=task.bundle.absolute())
