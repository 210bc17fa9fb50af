"""Queue settings of a recipe."""

from cytoseg.active_learning.candidates import Frame
from cytoseg.active_learning.cut_crops import Cutting
from cytoseg.active_learning.queue_slides import QueueRules
from cytoseg.recipe import Recipe


def queue_rules(recipe: Recipe) -> QueueRules:
    """Return the queue settings of a recipe."""
    slides, labels = recipe.slides, recipe.labels
    return QueueRules(
        cutting=Cutting(Frame(labels.crop_px, slides), recipe.class_list()),
        labels=labels,
        seed=recipe.training.seed,
        kind=recipe.interpreter.kind,
    )
