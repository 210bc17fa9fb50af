import torch

from cytoseg.commands.train_ddpm import settings_of, tissue_crops, training_crops
from cytoseg.recipe import load_recipe


def test_settings_are_the_recipes() -> None:
    recipe = load_recipe("cervical", ["training.seed=5", "training.workers=0"])
    settings = settings_of(recipe)
    assert (settings.crops, settings.batch, settings.size_px) == (8_000_000, 16, 256)
    assert (settings.rate, settings.ema_decay, settings.precision) == (1e-4, 0.9999, "bf16")
    assert (settings.seed, settings.workers, settings.checkpoint_crops) == (5, 0, 100_000)


def test_crops_go_on_from_any_number(cytoseg: object) -> None:
    recipe = load_recipe("tiny.yaml", ["training.crops=10", "slides.mpp=0.5"])
    crop = tissue_crops(recipe)
    all_crops, later = training_crops(recipe, crop)(0), training_crops(recipe, crop)(6)
    assert (len(all_crops), len(later)) == (10, 4)  # type: ignore[arg-type] # Dataset has no length for mypy
    assert later[0].shape == (3, 32, 32)
    torch.testing.assert_close(later[0], all_crops[6])
    crop.close()
