"""Corruptions of images by microscopes, scanners, files and stains, in five severities.

Each is a pure function of image, severity and seed. A severity is a multiple of a step, so severity 3 is three times
as strong as severity 1. Blur scales with the size of the objects: what hardly changes a cell erases a nucleus.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import fftconvolve
from skimage.color import hed_from_rgb, rgb_from_hed

from cytoseg.slides.optical_density import from_optical_density, optical_density

SEVERITIES = 5
"""The strongest severity; 0 leaves an image as it is."""
_FINE = 8
"""Points per pixel and axis at which the edge of a blur disc is sampled."""

Picture = NDArray[np.uint8]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """Size of what images show.

    Attributes:
        mpp: Micrometres per pixel.
        object_um: Diameter in micrometres of the objects that blur must not erase, such as nuclei.
    """

    mpp: float
    object_um: float


@dataclass(frozen=True)
class Corruption:
    """One kind of damage.

    Attributes:
        title: Displayed name.
        amount: Strength at a severity of 1 to 5.
        text: The strength in words that continue the title, such as ``of 1.5 µm``.
        apply: From image (H, W, 3) uint8 RGB, amount, scale and random generator to values 0 to 255.
    """

    title: str
    amount: Callable[[int, Scale], float]
    text: Callable[[float], str]
    apply: Callable[[Picture, float, Scale, np.random.Generator], NDArray[np.float64] | Picture]


def corrupt(picture: Picture, name: str, severity: int, *, scale: Scale, seed: int) -> Picture:
    """Corrupt an image.

    Directions (brighter or darker, which stain gains, where light comes from) and noise are drawn from the seed, the
    same at every severity.

    Args:
        picture: (H, W, 3) uint8 RGB.
        name: A key of ``CORRUPTIONS``.
        severity: 0 to 5; 0 returns the image itself.
        scale: Size of what it shows.
        seed: Random seed.

    Returns:
        (H, W, 3) uint8 RGB; nothing has moved, so labels stay true.
    """
    if severity == 0:
        return picture
    kind = CORRUPTIONS[name]
    values = kind.apply(picture, kind.amount(severity, scale), scale, np.random.default_rng(seed))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def strength(name: str, severity: int, scale: Scale) -> str:
    """Describe a corruption with its strength, such as ``defocus of 1.5 µm``; severity 1 to 5."""
    kind = CORRUPTIONS[name]
    return f"{kind.title} {kind.text(kind.amount(severity, scale))}"


def _defocus(picture: Picture, radius_um: float, scale: Scale, _rng: np.random.Generator) -> Values:
    """Blur by the disc that a point becomes in a lens out of focus."""
    disc = _disc(radius_um / scale.mpp)
    reach = len(disc) // 2
    padded = np.pad(picture.astype(np.float64), ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    return np.asarray(fftconvolve(padded, disc[:, :, None], mode="valid", axes=(0, 1)))


def _disc(radius_px: float) -> Values:
    """Return the share of each pixel inside a disc, odd side, summing to 1."""
    reach = math.ceil(radius_px)
    points = (np.arange((2 * reach + 1) * _FINE) + 0.5) / _FINE - reach - 0.5
    inside = np.hypot(points[:, None], points[None]) <= radius_px
    shares = inside.reshape(2 * reach + 1, _FINE, 2 * reach + 1, _FINE).mean(axis=(1, 3))
    return np.asarray(shares / shares.sum()) if shares.any() else np.pad([[1.0]], reach)


def _gaussian_noise(picture: Picture, share: float, _scale: Scale, rng: np.random.Generator) -> Values:
    """Add the noise of a camera's electronics, the same everywhere."""
    return picture + 255 * share * rng.standard_normal(picture.shape)


def _shot_noise(picture: Picture, share: float, _scale: Scale, rng: np.random.Generator) -> Values:
    """Count photons: the noise of a short exposure; ``share`` is its standard deviation at white."""
    photons = 1 / share**2
    return np.asarray(255 * rng.poisson(picture / 255 * photons) / photons)


def _jpeg(picture: Picture, quality: float, _scale: Scale, _rng: np.random.Generator) -> Picture:
    """Compress as a scanner or an export would."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=round(quality))
    return np.asarray(Image.open(file))


def _brightness(picture: Picture, share: float, _scale: Scale, rng: np.random.Generator) -> Values:
    """Expose longer or shorter; what is brighter than white is lost."""
    return np.asarray(picture * (1 + _sign(rng) * share))


def _contrast(picture: Picture, share: float, _scale: Scale, _rng: np.random.Generator) -> Values:
    """Wash out: pull all values towards the image's mean."""
    return np.asarray(picture + share * (picture.mean() - picture))


def _saturation(picture: Picture, share: float, _scale: Scale, rng: np.random.Generator) -> Values:
    """Move colours towards grey or away from it."""
    grey = picture.mean(axis=2, keepdims=True)
    return np.asarray(grey + (picture - grey) * (1 + _sign(rng) * share))


def _stain(picture: Picture, share: float, _scale: Scale, rng: np.random.Generator) -> Values:
    """Strengthen haematoxylin and weaken eosin by a share, or the reverse, as baths age.

    Source: stain vectors of Ruifrok & Johnston, Anal. Quant. Cytol. Histol. 23 (2001), as in scikit-image.
    """
    change = _sign(rng) * share
    stains = optical_density(picture) @ hed_from_rgb
    stains = stains * np.array([1 + change, 1 - change, 1])
    return from_optical_density(np.asarray(stains @ rgb_from_hed, np.float64))


def _pixel_size(picture: Picture, pixel_um: float, scale: Scale, _rng: np.random.Generator) -> Picture:
    """Scan with larger pixels and enlarge again to the old size."""
    image = Image.fromarray(picture)
    small = [max(1, round(side * scale.mpp / pixel_um)) for side in image.size]
    coarse = image.resize((small[0], small[1]), Image.Resampling.BOX)
    return np.asarray(coarse.resize(image.size, Image.Resampling.BILINEAR))


def _uneven_light(picture: Picture, share: float, _scale: Scale, rng: np.random.Generator) -> Values:
    """Darken from full light on one side to ``share`` less on the other."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    along = (along - along.min()) / max(float(np.ptp(along)), 1e-9)
    return np.asarray(picture * (1 - share * along)[:, :, None])


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.integers(2) else -1


def _steps(step: float) -> Callable[[int, Scale], float]:
    return lambda severity, _scale: severity * step


def _percent(before: str, after: str = "") -> Callable[[float], str]:
    return lambda amount: f"{before} {100 * amount:.0f} %{after}"


CORRUPTIONS: dict[str, Corruption] = {
    "defocus": Corruption(
        "defocus",
        lambda severity, scale: 0.09 * severity * scale.object_um,  # at 5 the disc is almost as wide as the object
        lambda amount: f"of {amount:.2f} µm",
        _defocus,
    ),
    "gaussian-noise": Corruption("Gaussian noise", _steps(0.02), _percent("of", " of white"), _gaussian_noise),
    "shot-noise": Corruption("shot noise", _steps(0.03), _percent("of", " at white"), _shot_noise),
    "jpeg": Corruption(
        "JPEG", lambda severity, _scale: 100 - 18 * severity, lambda amount: f"of quality {amount:.0f}", _jpeg
    ),
    "brightness": Corruption("brightness", _steps(0.08), _percent("changed by"), _brightness),
    "contrast": Corruption("contrast", _steps(0.12), _percent("lowered by"), _contrast),
    "saturation": Corruption("saturation", _steps(0.15), _percent("changed by"), _saturation),
    "stain": Corruption("stain shift", _steps(0.05), _percent("of"), _stain),
    "pixel-size": Corruption(
        "pixels",
        lambda severity, scale: scale.mpp * (1 + severity / 3),  # at 3 half the resolution
        lambda amount: f"of {amount:.2f} µm",
        _pixel_size,
    ),
    "uneven-light": Corruption("uneven light", _steps(0.1), _percent("of"), _uneven_light),
}
"""Corruptions by name."""
