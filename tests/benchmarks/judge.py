"""An independent judge of generated and edited images: a baseline trained on exact labels of synthetic slides."""

from dataclasses import replace

from cytoseg.interpreter.labelled_training import LabelledPictures
from cytoseg.patterns import fits
from cytoseg.recipe import Recipe
from cytoseg.studies.compare import Predict
from cytoseg.workflows.compared_methods import TrainingData, baselines, imagenet_unet
from cytoseg.workflows.crop_split import split_of
from tests.benchmarks.true_crops import true_crops

JUDGES = ("forest", "scratch", "imagenet-unet")


def train_judge(recipe: Recipe, name: str, *, per_slide: int) -> Predict:
    """Train a baseline on crops of the train slides with exact labels, which the run has not used.

    Args:
        recipe: The recipe of a run on synthetic slides with labels.
        name: One of ``JUDGES``.
        per_slide: Number of crops of 64 px from each train slide.
    """
    train = {crop.slide for crop in split_of(recipe).train}
    crops = [crop for crop in true_crops(recipe, per_slide=per_slide, size_px=64, seed=1) if fits(crop[1], train)]
    labelled = LabelledPictures([c[2] for c in crops], [c[3] for c in crops], [c[1] for c in crops])
    learning = replace(TrainingData.of(recipe, split_of(recipe)), labelled=labelled)
    methods = [*baselines(learning), *imagenet_unet(learning)]
    return next(method for method in methods if method.key == name).fit(100)
