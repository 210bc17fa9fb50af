"""The interpreter that guides samples."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cytoseg.errors import RecipeError
from cytoseg.interpreter.bundle import Bundle, bundle_hashes, load_bundle
from cytoseg.interpreter.guide import class_to_guide
from cytoseg.recipe import Recipe
from cytoseg.workflows.recorded_command import refuse_other_mpp
from cytoseg.workflows.run_paths import BUNDLE

LARGEST_SCALE = 10_000.0


@dataclass(frozen=True)
class Guidance:
    """The class that samples are guided to.

    Attributes:
        bundle: The interpreter.
        class_id: Id of the class.
        scale: How strongly.
        sha256: Hash of the interpreter's weights.
    """

    bundle: Bundle
    class_id: int
    scale: float
    sha256: str


def guidance_of(recipe: Recipe, folder: Path, name: str | None, scale: float | None) -> Guidance | None:
    """Load the run's interpreter, if samples should be guided.

    Args:
        recipe: The recipe of the samples.
        folder: The run folder.
        name: Class to guide to; None for no guidance.
        scale: How strongly, above 0; None for 1.

    Raises:
        RecipeError: If there is a scale without a class, or one out of range, or the interpreter does not know the
            class, or was trained at another pixel size.
        CheckpointError: If there is no interpreter, or it is damaged.
    """
    if name is None:
        if scale is not None:
            raise RecipeError("--scale: sets how strongly to guide, so name a class with --guide too.")
        return None
    strength = 1.0 if scale is None else scale
    if not 0.0 < strength <= LARGEST_SCALE:
        raise RecipeError(f"--scale {strength:g}: give a number above 0 and at most {LARGEST_SCALE:,.0f}.")
    bundle = load_bundle(folder / BUNDLE)
    refuse_other_mpp(bundle.mpp, recipe, command=f"--guide {name}")
    weights = "".join(sha256 for _, sha256 in sorted(bundle_hashes(folder / BUNDLE).items()))
    sha256 = hashlib.sha256(weights.encode()).hexdigest()
    return Guidance(bundle, class_to_guide(bundle, name), strength, sha256)
