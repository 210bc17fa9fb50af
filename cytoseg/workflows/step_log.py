"""The log of a training on labelled crops."""

from pathlib import Path

from cytoseg.recipe import Recipe
from cytoseg.runs import MetricsLog
from cytoseg.terminal import Bar
from cytoseg.workflows.memory_ceiling import DECODER_MEMORY, check_ceiling


class StepLog:
    """Shows and logs each step of a training on labelled crops, and stops one that takes too much memory.

    Args:
        recipe: Sets the memory limit.
        path: File of the log.
        bar: The command's progress bar.
        lower: Settings that lower the memory of the training.
    """

    def __init__(self, recipe: Recipe, path: Path, bar: Bar, *, lower: str = DECODER_MEMORY) -> None:
        self._recipe, self._path, self._bar, self._lower = recipe, path, bar, lower
        self._log: MetricsLog | None = None

    def add(self, step: int, loss: float) -> None:
        """Take the loss of a step.

        Raises:
            RecipeError: If more memory is in use than the recipe allows.
        """
        check_ceiling(self._recipe, step=step, lower=self._lower)
        if self._log is None:  # the first step shows where an interrupted training resumes; its earlier log is kept
            if step > 1:
                self._bar.resume_at(step - 1)
            self._log = MetricsLog(self._path, keep_until=step - 1, count="step")
        self._bar.update(step, f"loss {loss:.4f}")
        self._log.write({"step": step, "loss": round(loss, 6)})

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
