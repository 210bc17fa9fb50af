"""The recipe: everything that decides a run, in one YAML file with a schema that refuses what it does not know."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cytoseg.classes import ClassList
from cytoseg.diffusion.schedule import alpha_bar, timesteps_at_snr
from cytoseg.diffusion.unet import Architecture, tap_names, tap_shapes
from cytoseg.errors import RecipeError
from cytoseg.shipped import shipped_recipes
from cytoseg.slides.folders import innermost


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Mpp = Annotated[float, Field(gt=0, le=20)]
# The tags choose which of the two a wrong value is held against; messages leave them out.
MppOrByFolder = Annotated[
    Annotated[Mpp, Tag("<one>")] | Annotated[dict[Path, Mpp], Tag("<by folder>")],
    Discriminator(lambda found: "<by folder>" if isinstance(found, dict) else "<one>"),
]


class Background(_Section):
    """How glass is told from cells, once per slide at low resolution."""

    rule: Literal["otsu", "threshold", "none"] = "otsu"
    """otsu finds the darkness that parts glass from cells; threshold uses the value below; none takes everything."""
    threshold: Annotated[float, Field(gt=0, lt=3)] = 0.08
    """Mean optical density above which a place holds cells; for the rule threshold."""


class Slides(_Section):
    """Which slides the diffusion model learns from."""

    folders: tuple[Path, ...] = ()
    """Folders to search; relative to the folder the command is started in."""
    include: tuple[str, ...] = ("**/*",)
    """Patterns to take within each folder, such as **/*.svs; only files of known slide formats count."""
    exclude: tuple[str, ...] = ()
    """File name patterns to leave out."""
    mpp: Mpp | None = None
    """Micrometres per pixel at which crops and tiles are read; null takes level 0 as it is."""
    assume_mpp: MppOrByFolder | None = None
    """Micrometres per level-0 pixel of slides that do not say; one value, or one for each folder. Never guessed."""
    background: Background = Background()
    """How glass is skipped."""
    unreadable: Literal["stop", "skip"] = "stop"
    """When a slide cannot be read any more while training: stop, saving; or skip it from then on, naming it."""

    def assumed_mpp(self, path: Path) -> float | None:
        """Give what the recipe assumes of a slide that does not say: the value of the innermost folder it lies in."""
        if isinstance(self.assume_mpp, dict):
            return innermost(path, self.assume_mpp)
        return self.assume_mpp


class Crops(_Section):
    """The random crops the diffusion model is trained on."""

    size_px: Annotated[int, Field(ge=16, le=1024)] = 256
    """Side of a crop in pixels at slides.mpp."""
    flips: bool = True
    """Mirror crops at random: cells have no up and no left."""
    turns: bool = True
    """Turn crops by 90, 180 or 270 degrees at random."""
    jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest relative change of contrast per colour channel; small values help when stains vary."""


class Diffusion(_Section):
    """The diffusion model's network and process."""

    backbone: Literal["lucidrains"] = "lucidrains"
    """The U-Net of denoising-diffusion-pytorch."""
    dim: Annotated[int, Field(ge=8, le=512, multiple_of=8)] = 64
    """Channels at the finest resolution; 64 is the published size, 32 trains on a CPU."""
    dim_mults: Annotated[tuple[Annotated[int, Field(ge=1, le=32)], ...], Field(min_length=2, max_length=6)] = (
        1,
        2,
        4,
        8,
    )
    """Channel multiplier of each resolution, finest first."""
    timesteps: Annotated[int, Field(ge=10, le=10_000)] = 1000
    """Number of noise levels T."""
    schedule: Literal["linear", "cosine", "sigmoid"] = "linear"
    """How noise grows with t; timesteps of features have meaning only together with it."""
    objective: Literal["pred_noise", "pred_x0", "pred_v"] = "pred_noise"
    """What the network predicts; the loss is the squared (L2) error."""


class Training(_Section):
    """How the diffusion model is trained."""

    compile: bool = False
    """Let torch.compile make kernels for the network first: minutes at first, then faster steps on a GPU."""
    init: Path | None = None
    """Start from the averaged weights of another run's ddpm folder or of one checkpoint, instead of from nothing."""
    crops: Annotated[int, Field(ge=1)] = 1_000_000
    """Length of the training in crops seen."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 16
    """Crops per step, over all GPUs."""
    micro_batch: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Most crops that one GPU takes at once; the others follow in turns, with the same result. null: all at once."""
    rate: Annotated[float, Field(gt=0, le=0.1)] = 1e-4
    """Highest learning rate of Adam."""
    rate_schedule: Literal["constant", "cosine"] = "constant"
    """constant for long trainings that may be extended; cosine falls to a tenth and suits short ones."""
    warmup_crops: Annotated[int, Field(ge=0)] = 0
    """Crops over which the rate rises from zero."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    """Decay per step of the averaged weights, which features and samples use."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Largest gradient norm."""
    precision: Literal["no", "bf16"] = "no"
    """no is fp32; bf16 is faster where the processor has it."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides crops, noise, first weights, label split, pixels and interpreters."""
    checkpoint_crops: Annotated[int, Field(ge=1)] = 50_000
    """Crops between two checkpoints."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 2
    """How many of the newest checkpoints are kept."""
    keep_every: Annotated[int, Field(ge=0)] = 10
    """Every so many checkpoints one is kept for good; 0 for none."""
    workers: Annotated[int, Field(ge=0, le=64)] = 2
    """Processes that read crops; 0 reads in the training process. The crops are the same whatever the number."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Where every command computes: auto takes a GPU where there is one."""
    samples: Annotated[int, Field(ge=0, le=256)] = 16
    """Images drawn to look at."""
    look_crops: Annotated[int, Field(ge=1)] | None = None
    """Crops between two looks at samples, denoised crops and the loss; null looks at the end only."""
    track: Literal["none", "tensorboard"] = "none"
    """tensorboard logs for it too, with the extra track; metrics.jsonl is always written."""


class ClassItem(_Section):
    """One class."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    """Name, as in the labelme annotations."""
    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    """Colour in overlays and class maps, as #rrggbb."""


class Labels(_Section):
    """The annotated crops."""

    folder: Path | None = None
    """Where imported labels are kept; null is labels/ in the run folder. Several recipes may share one."""
    test_slides: tuple[str, ...] = ()
    """Patterns of slide ids whose crops are the test set; empty draws a share of the slides at random."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the slides in the test set when test_slides is empty."""


class Features(_Section):
    """Which decoder features the interpreters see."""

    taps: Literal["all"] | tuple[str, ...] = "all"
    """all, or names such as block3.attention: block 0 is the deepest; parts are block1, block2, attention, upsample."""
    timesteps: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Noise levels at which features are taken; null with snr_db null is 50, 100, 150."""
    snr_db: tuple[float, ...] | None = None
    """Noise levels by signal-to-noise ratio in decibels, the same on every schedule; instead of timesteps."""
    scale: Literal[1, 2, 4] = 1
    """Enlarges the input before the network; 2 helps for objects of a few pixels and costs four times the work."""
    noise_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the one noise tensor shared by all crops and timesteps."""


class Interpreter(_Section):
    """The ensemble of per-pixel MLPs."""

    members: Annotated[int, Field(ge=2, le=100)] = 10
    """Number of MLPs that vote together."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Optimiser updates of each."""
    batch_px: Annotated[int, Field(ge=2, le=65_536)] = 64
    """Pixels per update and member."""
    rate: Annotated[float, Field(gt=0, le=0.1)] = 1e-3
    """Learning rate of Adam, falling to zero along a cosine."""
    pixels_per_crop: Annotated[int, Field(ge=16, le=1_048_576)] = 2000
    """Pixels drawn from each labelled crop."""
    balance: Literal["classes", "none"] = "classes"
    """classes gives each class of a crop an equal share, rare ones all they have; none draws as they come."""
    vote: Literal["soft", "hard"] = "soft"
    """soft averages the probabilities; hard takes the most frequent class, ties by mean probability."""


class Predict(_Section):
    """How slides are segmented."""

    tile_px: Annotated[int, Field(ge=32, le=4096)] = 256
    """Side of a tile."""
    overlap_px: Annotated[int, Field(ge=0, le=2048)] = 64
    """Pixels that neighbouring tiles share; blended smoothly."""
    batch: Annotated[int, Field(ge=1, le=256)] = 1
    """Tiles computed together."""
    skip_glass: bool = True
    """Give glass the fill class (or ignore) without computing it."""


class Review(_Section):
    """The review app."""

    host: str = "127.0.0.1"
    """Address it listens on; the default is reachable from this machine only."""
    port: Annotated[int, Field(ge=1024, le=65_535)] = 8501
    """Port it listens on."""


class Recipe(_Section):
    """Everything that decides a run."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$", max_length=80)]
    """Short name of the recipe; it names the run folder."""
    folder: Path | None = None
    """Run folder for everything that is written; null is runs/<name>, relative to where the command is started."""
    slides: Slides = Slides()
    """Which slides to learn from."""
    crops: Crops = Crops()
    """Random crops."""
    diffusion: Diffusion = Diffusion()
    """Network and process."""
    training: Training = Training()
    """Training of the diffusion model."""
    classes: Annotated[tuple[ClassItem, ...], Field(min_length=2, max_length=255)]
    """What is told apart, in the order of ids."""
    fill: str | None = None
    """Class of unmarked pixels; null means unmarked is ignored."""
    labels: Labels = Labels()
    """Annotated crops."""
    features: Features = Features()
    """Features of the decoder."""
    interpreter: Interpreter = Interpreter()
    """The ensemble."""
    predict: Predict = Predict()
    """Segmenting slides."""
    review: Review = Review()
    """The app."""

    @model_validator(mode="after")
    def class_names_are_unique_and_fill_is_one_of_them(self) -> "Recipe":
        """Refuse a class named twice and a fill class nobody knows."""
        names = [c.name for c in self.classes]
        if len(set(names)) < len(names):
            raise ValueError(f"classes: a name stands twice in {', '.join(names)}")
        if self.fill is not None and self.fill not in names:
            raise ValueError(f"fill: {self.fill!r} is not in the class list ({', '.join(names)})")
        return self

    @model_validator(mode="after")
    def a_linear_schedule_has_more_than_20_timesteps(self) -> "Recipe":
        """Refuse a linear schedule so short that its variances, scaled to its length, reach 1."""
        if self.diffusion.schedule == "linear" and self.diffusion.timesteps <= 20:
            raise ValueError(
                f"diffusion.timesteps: {self.diffusion.timesteps} is too few for the linear schedule, "
                "which needs more than 20; use more, or the cosine schedule"
            )
        return self

    @model_validator(mode="after")
    def features_exist_in_this_network(self) -> "Recipe":
        """Refuse taps and timesteps the network does not have."""
        if self.features.timesteps is not None and self.features.snr_db is not None:
            raise ValueError("features: give timesteps or snr_db, not both")
        for t in self.feature_timesteps():
            if t >= self.diffusion.timesteps:
                raise ValueError(
                    f"features.timesteps: {t} is not below diffusion.timesteps ({self.diffusion.timesteps})"
                )
        if self.features.timesteps == () or self.features.snr_db == () or self.features.taps == ():
            raise ValueError("features: taps and timesteps must not be empty")
        try:
            tap_shapes(self.architecture(), self.taps())
        except RecipeError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def sizes_fit_the_network(self) -> "Recipe":
        """Refuse sizes that the network cannot halve often enough."""
        multiple = self.architecture().multiple_px
        for name, size in (("crops.size_px", self.crops.size_px), ("predict.tile_px", self.predict.tile_px)):
            if size % multiple:
                raise ValueError(f"{name}: {size} is not a multiple of {multiple}, as diffusion.dim_mults needs")
        if 2 * self.predict.overlap_px > self.predict.tile_px:
            raise ValueError(f"predict.overlap_px: {self.predict.overlap_px} is more than half of tile_px")
        return self

    def architecture(self) -> Architecture:
        """Give what decides the weights' shapes and meaning."""
        d = self.diffusion
        return Architecture(d.dim, d.dim_mults, d.timesteps, d.schedule, d.objective, d.backbone)

    def class_list(self) -> ClassList:
        """Give the classes in the form the library works with."""
        colours = tuple((int(c.colour[1:3], 16), int(c.colour[3:5], 16), int(c.colour[5:], 16)) for c in self.classes)
        return ClassList(tuple(c.name for c in self.classes), colours, self.fill)

    def taps(self) -> tuple[str, ...]:
        """Give the names of the taps."""
        return tap_names(self.architecture()) if self.features.taps == "all" else self.features.taps

    def feature_timesteps(self) -> tuple[int, ...]:
        """Give the timesteps of features, from timesteps, snr_db or the default."""
        if self.features.snr_db is not None:
            return timesteps_at_snr(alpha_bar(self.diffusion.schedule, self.diffusion.timesteps), self.features.snr_db)
        return self.features.timesteps if self.features.timesteps is not None else (50, 100, 150)

    def run_folder(self) -> Path:
        """Give the folder everything is written to."""
        return self.folder or Path("runs") / self.name

    def labels_folder(self) -> Path:
        """Give the folder of the imported labels."""
        return self.labels.folder or self.run_folder() / "labels"


def find_recipe(name: str) -> Path:
    """Find a recipe by path, or by the name of one that comes with the program.

    Raises:
        RecipeError: If there is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = {p.stem: p for p in sorted(shipped_recipes().glob("*.yaml"), key=lambda path: path.stem)}
    if path.name == name and path.stem in shipped:
        return shipped[path.stem]
    raise RecipeError(f"{name}: no such recipe. Give a YAML file, or one of {', '.join(shipped)}.")


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply overrides and check everything.

    Args:
        name: Path, or name of a shipped recipe.
        overrides: ``section.key=value``; the value is read as YAML 1.2.

    Raises:
        RecipeError: With all problems of the file in one message.
    """
    path = find_recipe(name)
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a table of sections, found {type(values).__name__}.")
    for override in overrides:
        _apply(values, override)
    try:
        return Recipe.model_validate(values)
    except pydantic.ValidationError as error:
        raise RecipeError(f"{path}: " + "; ".join(_sentence(e) for e in error.errors())) from error


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"override {override!r}: write section.key=value, such as training.crops=20000.")
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise RecipeError(f"override {override!r}: {section} is a single value, not a section.")
    try:
        values[last] = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise RecipeError(f"override {override!r}: the value is not YAML ({' '.join(str(error).split())}).") from error


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if not str(part).startswith("<"))
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key. Remove it or mend its spelling (`cytoseg recipe explain` lists all keys)"
    text = error["msg"].removeprefix("Value error, ")
    return f"{where}: {text}, found {error['input']!r}" if where else text


def dump_recipe(recipe: Recipe) -> str:
    """Write the recipe with every value, defaults included, as YAML."""
    yaml, text = YAML(), io.StringIO()
    yaml.width = 4096
    yaml.dump(recipe.model_dump(mode="json"), text)
    return text.getvalue()
