"""The split of a run's crops into train and test."""

from cytoseg.errors import LabelError
from cytoseg.labels.index import load_index
from cytoseg.labels.split import Split, split_by_slide
from cytoseg.recipe import Recipe


def split_of(recipe: Recipe) -> Split:
    """Split the imported crops into train and test by slide according to the recipe.

    Raises:
        LabelError: If nothing is imported, the classes differ, a side would be empty, or all test crops were corrected
            from a prediction and are excluded.
    """
    index, wanted = load_index(recipe.labels_folder()), recipe.class_list().names
    if index.classes != wanted:
        raise LabelError(
            f"{index.folder}: the labels were imported with the classes ({', '.join(index.classes)}), the recipe has "
            f"({', '.join(wanted)}). Delete the folder and run `cytoseg label-import` again."
        )
    split = split_by_slide(
        index.crops,
        test_slides=recipe.labels.test_slides,
        test_fraction=recipe.labels.test_fraction,
        seed=recipe.training.seed,
    )
    return split if recipe.labels.score_corrected else _without_corrected(split)


def _without_corrected(split: Split) -> Split:
    left = tuple(crop for crop in split.test if not crop.from_prediction)
    if not left:
        raise LabelError(
            f"labels.score_corrected=false: all {len(split.test)} test crops were corrected from a prediction, so "
            "none is left. Annotate new test crops."
        )
    return Split(split.train, left)
