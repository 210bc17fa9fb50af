"""The sections of a recipe: what each key means and which values it may have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from cytoseg.features.settings import EXTRACTORS
from cytoseg.slides.folder_values import innermost


class Section(BaseModel):
    """A table of keys; unknown ones are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


Mpp = Annotated[float, Field(gt=0, le=20)]
# The tags choose which of the two a wrong value is held against; messages leave them out.
MppOrByFolder = Annotated[
    Annotated[Mpp, Tag("<one>")] | Annotated[dict[Path, Mpp], Tag("<by folder>")],
    Discriminator(lambda found: "<by folder>" if isinstance(found, dict) else "<one>"),
]


class Background(Section):
    """How glass is separated from cells, once per slide at low resolution."""

    rule: Literal["otsu", "threshold", "none"] = "otsu"
    """otsu finds the optical density that separates glass from cells; threshold uses the value below; none takes
    everything."""
    threshold: Annotated[float, Field(gt=0, lt=3)] = 0.08
    """Mean optical density above which a place holds cells; for the rule threshold."""


class Slides(Section):
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
        """Return what the recipe assumes of a slide that does not say: the value of the innermost folder it lies in."""
        if isinstance(self.assume_mpp, dict):
            return innermost(path, self.assume_mpp)
        return self.assume_mpp


class Crops(Section):
    """The random crops the diffusion model is trained on."""

    size_px: Annotated[int, Field(ge=16, le=1024)] = 256
    """Side of a crop in pixels at slides.mpp."""
    flips: bool = True
    """Mirror crops at random: cells have no up and no left."""
    turns: bool = True
    """Turn crops by 90, 180 or 270 degrees at random."""
    jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest relative change of contrast per colour channel; small values help when stains vary."""


class Diffusion(Section):
    """The diffusion model's network and process."""

    backbone: Literal["lucidrains", "pretrained"] = "lucidrains"
    """lucidrains is the U-Net of denoising-diffusion-pytorch, the published method's. pretrained is a smaller U-Net
    whose encoder starts from ImageNet weights (extra pretrained); write dim 16 and dim_mults [3, 4, 6] with it."""
    dim: Annotated[int, Field(ge=8, le=512, multiple_of=8)] = 64
    """What dim_mults multiply: with lucidrains the channels at the finest resolution; 64 is the published size, 32
    trains on a CPU."""
    dim_mults: Annotated[tuple[Annotated[int, Field(ge=1, le=32)], ...], Field(min_length=2, max_length=6)] = (
        1,
        2,
        4,
        8,
    )
    """Channel multiplier of each resolution of the decoder, finest first; three with pretrained."""
    timesteps: Annotated[int, Field(ge=10, le=10_000)] = 1000
    """Number of noise levels T."""
    schedule: Literal["linear", "cosine", "sigmoid"] = "linear"
    """How noise grows with t; timesteps of features have meaning only together with it."""
    objective: Literal["pred_noise", "pred_x0", "pred_v"] = "pred_noise"
    """What the network predicts; the loss is the squared (L2) error. pred_noise is the published method's, for
    features; with it an error at the highest t becomes a false colour of a DDIM sample, less so with pred_v."""


class ClassItem(Section):
    """One class."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    """Name, as in the labelme annotations."""
    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    """Colour in overlays and class maps, as #rrggbb."""


class Source(Section):
    """Labels from elsewhere that teach the backbone; they are never in a test or held-out set."""

    folder: Path
    """Labels folder that label-import has written, of another run."""
    classes: dict[str, str] = {}
    """What the source's classes are here: a class of this recipe; other, for none of those that the source tells apart;
    or ignore. Classes of the same name need no entry."""
    mpp: Mpp | None = None
    """Micrometres per pixel of its pictures; they are resized to slides.mpp."""
    object_px: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Instead of mpp: median diameter in pixels to which the objects of its rarest class are resized."""
    spread: Annotated[float, Field(ge=1, le=4)] = 1.35
    """The size varies at random by up to this factor, up and down."""
    stain: Literal["random", "as_is"] = "random"
    """random paints each part in a made-up stain, so that grey pictures teach coloured ones; as_is keeps its own."""
    share: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """How often it is drawn, relative to the other sources."""


class Labels(Section):
    """The annotated crops."""

    folder: Path | None = None
    """Where imported labels are kept; null is labels/ in the run folder. Several recipes may share one."""
    crop_px: Annotated[int, Field(ge=16, le=4096)] = 256
    """Side of the crops that label-crops, queue and the app cut to annotate, in pixels at slides.mpp. A person needs to
    see what lies around a cell, so they are larger than the training crops."""
    test_slides: tuple[str, ...] = ()
    """Patterns of slide ids whose crops are the test set; empty draws a share of the slides at random."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the slides in the test set when test_slides is empty."""
    score_corrected: bool = True
    """Also score test crops whose truth was corrected from a prediction, and report their number: the parts left
    untouched agree with the model. false excludes them from every score."""
    stains: dict[str, tuple[str, ...]] = {}
    """Patterns of slide ids by stain, such as {Giemsa: ["g_*"]}; scores are then also reported by stain."""
    sources: tuple[Source, ...] = ()
    """Labels from elsewhere that teach the backbone pretrained beside denoising; see training.mask_weight."""


class Features(Section):
    """Which features the interpreters see."""

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
    extractors: tuple[Literal["ddpm", "filters", "pretrained"], ...] = ("ddpm",)
    """What the features are of, joined: ddpm takes the taps of the diffusion model, filters the 72 image filters of the
    random forest, pretrained the five stages of a frozen ImageNet network (needs the extra pretrained to learn)."""
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Most memory in GB that train-interpreter takes, at any number of crops; pixels' features that do not fit go to
    disk. null takes up to half of what is free. The tuning of a decoder stops as soon as it takes more. compare and
    study hold their MLPs and decoders to it, not their forest and U-Net."""

    @model_validator(mode="before")
    @classmethod
    def filters_were_a_key_of_their_own(cls, values: Any) -> Any:
        """Read recipes from before extractors had names: ``filters: true`` joined filters to the diffusion model's."""
        is_old = isinstance(values, Mapping) and isinstance(values.get("filters"), bool)
        if not is_old or "extractors" in values:
            return values  # where both are said, filters is refused as unknown
        others = {key: value for key, value in values.items() if key != "filters"}
        return {**others, "extractors": ("ddpm", "filters") if values["filters"] else ("ddpm",)}

    @field_validator("extractors")
    @classmethod
    def each_extractor_stands_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse none at all and a name that is repeated; bring them in the order in which they are joined."""
        if not names:
            raise ValueError(f"name at least one of {', '.join(EXTRACTORS)}")
        if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
            raise ValueError(f"{repeated[0]} appears twice")
        return tuple(name for name in EXTRACTORS if name in names)


class Predict(Section):
    """How slides are segmented."""

    tile_px: Annotated[int, Field(ge=32, le=4096)] | None = None
    """Side of a tile; null takes that of the labelled crops (labels.crop_px), but at most 512 and at least twice
    overlap_px. The network's attention sees the whole of a tile, so tiles as large as the labelled crops suit best: a
    model that had hardly trained was twice as unsure in tiles of 512 px as of 256, a trained one the same."""
    overlap_px: Annotated[int, Field(ge=0, le=2048)] = 64
    """Pixels that neighbouring tiles share; blended smoothly. With fewer than 64 the tiles' edges, beyond which the
    network sees nothing, show in the uncertainty: 1.4 times as much in the middle of 32 shared pixels, 1.04 of 64."""
    batch: Annotated[int, Field(ge=1, le=256)] | None = None
    """Tiles computed together; null takes as many as a GPU has room for, and on a CPU what its caches hold."""
    skip_glass: bool = True
    """Return glass the fill class (or ignore) without computing it."""
    uncertainty_bits: Literal[8, 32] = 8
    """Of a value of the uncertainty map. 8 stores grey levels, and among the file's annotations how many nats a grey
    level is, 1/255 of the slide's largest uncertainty; 32 stores nats as they were computed, in many times the room."""


class Objects(Section):
    """What counts as an object, such as one nucleus, of a predicted class map."""

    classes: tuple[str, ...] | None = None
    """Classes that have objects; null takes all but the fill class."""
    split: tuple[str, ...] | None = None
    """Classes whose touching objects are cut apart; null takes that of the nuclei, where the class list has it."""
    least_px: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    """Areas of fewer pixels of the class map are dropped, and counted."""
    nucleus: str = "nucleus"
    """Class of the nuclei, for the nucleus-to-cytoplasm ratio; without it in the class list there is none."""
    cytoplasm: str = "cytoplasm"
    """Class of the cytoplasm, likewise."""
    parquet: bool = False
    """Write the table of cells as Parquet, too, which needs the extra ``parquet``."""
    exact_outlines: bool = False
    """Outline objects with a corner at every pixel step. By default outlines are simplified to half a pixel; their IoU
    with the exact ones is at least 0.98, and the holes stay."""


class Review(Section):
    """The review app."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]+$")] = "127.0.0.1"
    """Address it listens on; the default is reachable from this machine only. Access needs the link
    printed at startup, at any address."""
    names: tuple[Annotated[str, Field(pattern=r"^([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$")], ...] = ()
    """Other names by which browsers ask for it, such as that of a proxy, with its port unless that is the app's or the
    usual one: lab.example.org, lab.example.org:8443. Its own address and the machine's name need not be listed."""
    port: Annotated[int, Field(ge=1024, le=65_535)] = 8501
    """Port it listens on."""
    log: str | None = None
    """Database for the reviewers' log that machines share, as SQLAlchemy writes it: postgresql+psycopg://user@host/name.
    null keeps a log in each run folder. The password belongs in ~/.pgpass or PGPASSWORD."""

    @field_validator("log")
    @classmethod
    def the_log_is_an_address_without_a_password(cls, log: str | None) -> str | None:
        """Refuse what is no URL; and a password, for the recipe is copied into the run folder and shown."""
        if log is None:
            return None
        parts = urlsplit(log)
        if not parts.scheme or "://" not in log:
            raise ValueError("write it as dialect+driver://user@host/database")
        if parts.password is not None or "password" in parse_qs(parts.query):
            raise ValueError("leave the password out and put it in ~/.pgpass or PGPASSWORD")
        return log
