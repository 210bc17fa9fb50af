"""The recipe's schema and the checks across its sections."""

import math
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cytoseg.classes import IGNORE, ClassItem, ClassList
from cytoseg.diffusion.adm_settings import AdmSettings
from cytoseg.diffusion.architecture import PRETRAINED_LEVELS, Architecture, tap_names, tap_shapes
from cytoseg.diffusion.noise_schedules import signal_shares, timesteps_at_snr
from cytoseg.diffusion.settings import DiffusionSection, TrainingSection
from cytoseg.diffusion.space_settings import SpaceSection
from cytoseg.errors import RecipeError
from cytoseg.features.settings import FeatureSettings, FeaturesSection
from cytoseg.interpreter.settings import (
    DecoderSection,
    InterpreterSection,
    SegdiffSection,
    StudentSection,
    hidden_sizes,
)
from cytoseg.labels.settings import LabelsSection
from cytoseg.objects.settings import ObjectSettings, ObjectsSection
from cytoseg.predict.settings import PredictSection
from cytoseg.quoting import short_repr
from cytoseg.review.settings import ReviewSection
from cytoseg.slides.settings import CropsSection, SlidesSection

LARGEST_TILE_PX = 512
"""Largest default tile: the memory of attention grows with the square of its area."""


class Recipe(BaseModel):
    """Everything that determines a run: a table of sections; unknown ones are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[\w.-]*[\w-][\w.-]*$", max_length=80)]
    """Short name of the recipe, also of the run folder."""
    folder: Path | None = None
    """Run folder for all output; null is runs/<name>, relative to the current folder."""
    slides: SlidesSection = SlidesSection()
    """The slides."""
    crops: CropsSection = CropsSection()
    """Random crops."""
    space: SpaceSection = SpaceSection()
    """Pixels, or latents of an autoencoder."""
    diffusion: DiffusionSection = DiffusionSection()
    """Network and process."""
    training: TrainingSection = TrainingSection()
    """Training of the diffusion model."""
    classes: Annotated[tuple[ClassItem, ...], Field(min_length=2, max_length=255)]
    """The classes, in the order of ids."""
    fill: str | None = None
    """Class of unmarked pixels; null means unmarked is ignored."""
    labels: LabelsSection = LabelsSection()
    """Annotated crops."""
    features: FeaturesSection = FeaturesSection()
    """Features of the decoder."""
    interpreter: InterpreterSection = InterpreterSection()
    """The interpreter."""
    decoder: DecoderSection = DecoderSection()
    """The interpreter of kind decoder."""
    student: StudentSection = StudentSection()
    """The interpreter of kind student."""
    segdiff: SegdiffSection = SegdiffSection()
    """The interpreter of kind segdiff."""
    predict: PredictSection = PredictSection()
    """Segmenting slides."""
    objects: ObjectsSection = ObjectsSection()
    """Objects of the class map."""
    review: ReviewSection = ReviewSection()
    """The app."""

    @field_validator("features", mode="before")
    @classmethod
    def filters_were_a_key_of_their_own(cls, values: Any) -> Any:
        """Read older recipes, in which ``filters: true`` added filters to the diffusion model's features."""
        is_old = isinstance(values, Mapping) and isinstance(values.get("filters"), bool)
        if not is_old or "extractors" in values:
            return values  # if both are given, filters is refused as unknown
        others = {key: value for key, value in values.items() if key != "filters"}
        return {**others, "extractors": ("ddpm", "filters") if values["filters"] else ("ddpm",)}

    @model_validator(mode="after")
    def class_names_are_unique_and_fill_is_one_of_them(self) -> "Recipe":
        """Refuse duplicate class names and an unknown fill class."""
        names = [c.name for c in self.classes]
        if len({unicodedata.normalize("NFC", name) for name in names}) < len(names):
            raise ValueError(f"classes: a name appears twice in {', '.join(names)}")
        if self.fill is not None and self.fill not in names:
            raise ValueError(f"fill: {self.fill!r} is not in the class list ({', '.join(names)})")
        return self

    @model_validator(mode="after")
    def classes_with_objects_are_in_the_class_list(self) -> "Recipe":
        """Refuse objects of an unknown class, and splitting of classes without objects."""
        names = [c.name for c in self.classes]
        for key, wanted, known in (
            ("classes", self.objects.classes, names),
            ("split", self.objects.split, self.object_settings().classes),
        ):
            if unknown := [name for name in wanted or () if name not in known]:
                what = "in the class list" if key == "classes" else "among the classes with objects"
                raise ValueError(f"objects.{key}: {unknown[0]!r} is not {what} ({', '.join(known)})")
        return self

    @model_validator(mode="after")
    def a_linear_schedule_has_more_than_20_timesteps(self) -> "Recipe":
        """Refuse a linear schedule that is so short that its scaled variances reach 1."""
        if self.diffusion.schedule == "linear" and self.diffusion.timesteps <= 20:
            raise ValueError(
                f"diffusion.timesteps: {self.diffusion.timesteps} is too few for the linear schedule, "
                "which needs more than 20; use more, or the cosine schedule"
            )
        return self

    @model_validator(mode="after")
    def the_device_is_one_that_torch_names(self) -> "Recipe":
        """Refuse a device that is neither auto, cpu, cuda nor one of several GPUs."""
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.training.device):
            raise ValueError(
                f"training.device: write auto, cpu, cuda or cuda:0, found {short_repr(self.training.device)}"
            )
        return self

    @model_validator(mode="after")
    def the_pretrained_backbone_has_three_levels(self) -> "Recipe":
        """Refuse a decoder that does not match the encoder, and sources without a mask head to train."""
        d = self.diffusion
        if d.backbone == "pretrained" and len(d.dim_mults) != PRETRAINED_LEVELS:
            raise ValueError(
                f"diffusion.dim_mults: {list(d.dim_mults)} has {len(d.dim_mults)} levels, the pretrained backbone has "
                f"{PRETRAINED_LEVELS}; write dim 16 and dim_mults [3, 4, 6]"
            )
        if self.labels.sources and d.backbone != "pretrained":
            raise ValueError("labels.sources: only diffusion.backbone: pretrained is trained on them")
        if not self.labels.sources and self.training.denoising_weight == 0:
            raise ValueError("training.denoising_weight: 0 leaves nothing to learn without labels.sources")
        return self

    @model_validator(mode="after")
    def labelled_sources_leave_an_id_for_pixels_of_no_class(self) -> "Recipe":
        """Refuse sources if a class has the id of ``mask_loss.OTHER``, the last before ignore."""
        if self.labels.sources and len(self.classes) > IGNORE - 1:
            raise ValueError(
                f"labels.sources: leave room for {IGNORE - 1} classes, found {len(self.classes)}; remove a class or "
                "the sources"
            )
        return self

    @model_validator(mode="after")
    def the_pretrained_backbone_takes_colours(self) -> "Recipe":
        """Refuse grey images for a network whose ImageNet weights take three channels."""
        if self.diffusion.backbone == "pretrained" and self.diffusion.channels != 3:
            raise ValueError(
                f"diffusion.channels: the pretrained backbone takes 3, found {self.diffusion.channels}; use adm or "
                "lucidrains for grey images"
            )
        return self

    @model_validator(mode="after")
    def only_adm_has_its_blocks_and_learns_the_variance(self) -> "Recipe":
        """Refuse settings of the backbone adm that would have no effect, and a variance that cannot be learned."""
        d = self.diffusion
        if d.backbone != "adm" and d.adm != AdmSettings():
            raise ValueError(f"diffusion.adm: describes the backbone adm, found diffusion.backbone: {d.backbone}")
        if d.learn_variance and (d.backbone, d.objective) != ("adm", "pred_noise"):
            raise ValueError(
                "diffusion.learn_variance: needs diffusion.backbone: adm and diffusion.objective: pred_noise, found "
                f"{d.backbone} and {d.objective}"
            )
        if d.condition != "none" and d.backbone != "adm":
            raise ValueError(f"diffusion.condition: {d.condition} needs diffusion.backbone: adm, found {d.backbone}")
        if wrong := [number for number in d.adm.attention if number & (number - 1)]:
            raise ValueError(f"diffusion.adm.attention: write 1, 2, 4, 8 and so on, found {wrong[0]}")
        return self

    @model_validator(mode="after")
    def only_adm_enlarges_small_pictures(self) -> "Recipe":
        """Refuse small images for a network that cannot take one, and crops that cannot be reduced by that factor."""
        d = self.diffusion
        if d.upsample == 1 and d.upsample_from is None:
            return self
        key = "upsample" if d.upsample_from is None else "upsample_from"
        if d.backbone != "adm":
            raise ValueError(f"diffusion.{key}: needs diffusion.backbone: adm, found {d.backbone}")
        if d.condition != "none":
            raise ValueError(f"diffusion.{key}: a network takes a small image or a map, found condition {d.condition}")
        if self.crops.size_px % d.upsample:
            raise ValueError(
                f"crops.size_px: {self.crops.size_px} is not a multiple of diffusion.upsample, {d.upsample}"
            )
        return self

    @model_validator(mode="after")
    def a_latent_space_has_a_network_that_takes_latents(self) -> "Recipe":
        """Refuse what works with pixels only: an encoder with ImageNet weights, and likelihoods of grey levels."""
        d = self.diffusion
        of_pixels = {
            "diffusion.backbone: pretrained": d.backbone == "pretrained",
            "diffusion.learn_variance": d.learn_variance,
            "diffusion.condition: map": d.condition == "map",
            "diffusion.upsample_from": d.upsample > 1 or d.upsample_from is not None,
        }
        found = [key for key, asked in of_pixels.items() if asked]
        if self.space.is_latent and found:
            raise ValueError(
                f"space.kind: {found[0]} works with pixels only, found {self.space.kind}; remove one of them"
            )
        return self

    @model_validator(mode="after")
    def features_exist_in_this_network(self) -> "Recipe":
        """Refuse taps and timesteps that the network does not have."""
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
    def a_simplex_of_the_classes_fits_into_the_interpreters(self) -> "Recipe":
        """Refuse the ETF regulariser with more classes than channels of the last hidden layer."""
        channels = hidden_sizes(len(self.classes))[1]
        if self.interpreter.etf_weight and len(self.classes) > channels:
            raise ValueError(
                f"interpreter.etf_weight: needs at most {channels} classes, found {len(self.classes)}; set it to 0"
            )
        return self

    @model_validator(mode="after")
    def sizes_fit_the_network(self) -> "Recipe":
        """Refuse sizes that the network cannot downsample."""
        multiple = self.architecture().multiple_px
        for name, size in (
            ("crops.size_px", self.crops.size_px),
            ("decoder.size_px", self.decoder.size_px),
            ("predict.tile_px", self.tile_px()),
        ):
            if size % multiple:
                space = " and space.factor need" if self.space.is_latent else " needs"
                raise ValueError(f"{name}: {size} is not a multiple of {multiple}, as diffusion.dim_mults{space}")
        if 2 * self.predict.overlap_px > self.tile_px():
            raise ValueError(f"predict.overlap_px: {self.predict.overlap_px} is more than half of tile_px")
        return self

    def section(self, name: str) -> Any:
        """Return one section as JSON with all keys."""
        return self.model_dump(mode="json", include={name})[name]

    def architecture(self) -> Architecture:
        """Return the network's architecture."""
        names = tuple(c.name for c in self.classes)
        return Architecture(
            **{**vars(self.diffusion), "upsample_from": None},
            mask_classes=names if self.labels.sources else (),
            map_classes=names if self.diffusion.condition == "map" else (),
            space=self.space.shape,
        )

    def class_list(self) -> ClassList:
        """Return the class list."""
        return ClassList(tuple(c.name for c in self.classes), tuple(c.rgb() for c in self.classes), self.fill)

    def object_settings(self) -> ObjectSettings:
        """Return the object settings."""
        return self.objects.of_classes([c.name for c in self.classes if c.name != self.fill])

    def feature_settings(self) -> FeatureSettings:
        """Return the features' section with the taps and timesteps of this network."""
        return self.features.of_network(self.taps(), self.feature_timesteps())

    def taps(self) -> tuple[str, ...]:
        """Return the names of the taps."""
        return tap_names(self.architecture()) if self.features.taps == "all" else self.features.taps

    def tile_px(self) -> int:
        """Return the side of a tile, by default that of the labelled crops."""
        if self.predict.tile_px is not None:
            return self.predict.tile_px
        multiple = self.architecture().multiple_px
        return multiple * math.ceil(
            max(2 * self.predict.overlap_px, min(self.labels.crop_px, LARGEST_TILE_PX)) / multiple
        )

    def feature_timesteps(self) -> tuple[int, ...]:
        """Return the timesteps of features, from timesteps, snr_db or the default."""
        if self.features.snr_db is not None:
            return timesteps_at_snr(
                signal_shares(self.diffusion.schedule, self.diffusion.timesteps), self.features.snr_db
            )
        return self.features.timesteps if self.features.timesteps is not None else (50, 100, 150)

    def run_folder(self) -> Path:
        """Return the run folder."""
        return self.folder or Path("runs") / self.name

    def labels_folder(self) -> Path:
        """Return the folder of the imported labels."""
        return self.labels.folder or self.run_folder() / "labels"
