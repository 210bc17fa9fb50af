"""Starting a command from the app on a run's recipe."""

import re
from collections.abc import Sequence
from pathlib import Path

from cytoseg.errors import RecipeError
from cytoseg.jobs.job_commands import LEARN_NORMAL
from cytoseg.jobs.job_database import JobPlace
from cytoseg.jobs.start_and_cancel import start_job
from cytoseg.recipe import recipe_of_run
from cytoseg.workflows.anomaly_needs import refuse_unready_for_anomalies

_OTHER_GPU = re.compile(r"cuda:([1-9][0-9]?)")


def start_on_run(
    place: JobPlace, command: str, *, author: str, base: Path, keys: Sequence[str] = (), given: Sequence[str] = ()
) -> int:
    """Start a command on the recipe in a run folder; see ``start_job``.

    Args:
        place: The run folder, and where its jobs are recorded.
        command: Its name.
        author: Who starts it.
        base: Base folder of relative paths in the recipe.
        keys: Its inputs as shown to users.
        given: The same as arguments.

    Returns:
        The number of the job.

    Raises:
        RecipeError: If the recipe cannot be read, or belongs to another run folder: the command would write there.
        CytosegError: If the command cannot be started, the same job has not ended on this machine, or the run lacks
            what it needs to find anomalies.
    """
    run = place.run
    recipe = recipe_of_run(run)
    folder = recipe.run_folder()
    if (base / folder).resolve() != run.resolve():
        raise RecipeError(
            f"{run.resolve().name}: its recipe.yaml has the run folder {folder}, so the command would "
            "write there. Start the review where the run was made, or correct folder in recipe.yaml."
        )
    if command in (LEARN_NORMAL, "anomaly"):
        refuse_unready_for_anomalies(run, base=base, normal=command == LEARN_NORMAL)
    return start_job(
        place,
        command,
        keys=keys,
        given=given,
        author=author,
        device=device_key(recipe.training.device),
        base=base.resolve(),
    )


def device_key(named: str) -> str:
    """Return the device key of a job: additional GPUs run their own jobs, everything else shares the machine.

    Args:
        named: ``training.device``, such as ``auto``, ``cpu`` or ``cuda:1``.
    """
    other = _OTHER_GPU.fullmatch(named)
    return f"cuda-{other[1]}" if other else "first"
