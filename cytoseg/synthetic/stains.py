"""Stains of synthetic slides as optical densities."""

from dataclasses import dataclass

Colour = tuple[float, float, float]
"""Optical density (natural logarithm) in red, green and blue of one unit of thickness."""


@dataclass(frozen=True)
class Stain:
    """Colours of one laboratory's Papanicolaou stain; two tones of a family are mixed freely within a slide.

    Attributes:
        glass: Brightness of empty glass in red, green and blue; above 1 is over-exposed.
        cyanophilic: Two tones of the blue-green family (intermediate and parabasal cells).
        eosinophilic: Two tones of the pink-orange family (superficial cells).
        nucleus: Haematoxylin.
        speck: Debris and out-of-focus dust.
        eosinophilic_share: Fraction of eosinophilic cells among those that can be either, 0 to 1.
        film: Optical density of bacteria and precipitate on the glass, 0 for a washed slide.
        leucocytes: Mean number of neutrophils in a block of 64 x 64 µm.
    """

    glass: Colour
    cyanophilic: tuple[Colour, Colour]
    eosinophilic: tuple[Colour, Colour]
    nucleus: Colour
    speck: Colour
    eosinophilic_share: float
    film: float
    leucocytes: float


STAINS: dict[str, Stain] = {
    "teal-rose": Stain(
        glass=(1.0, 1.02, 1.03),
        cyanophilic=((0.62, 0.20, 0.17), (0.50, 0.30, 0.20)),
        eosinophilic=((0.08, 0.52, 0.28), (0.14, 0.46, 0.42)),
        nucleus=(1.35, 1.12, 0.78),
        speck=(0.45, 0.65, 0.70),
        eosinophilic_share=0.35,
        film=0.0,
        leucocytes=0.5,
    ),
    "blue-magenta": Stain(
        glass=(1.03, 1.03, 1.03),
        cyanophilic=((0.55, 0.26, 0.05), (0.42, 0.24, 0.04)),
        eosinophilic=((0.06, 0.78, 0.11), (0.09, 0.55, 0.10)),
        nucleus=(1.50, 1.40, 0.55),
        speck=(0.80, 0.75, 0.40),
        eosinophilic_share=0.55,
        film=0.0,
        leucocytes=0.6,
    ),
    "lilac-orange": Stain(
        glass=(0.93, 0.92, 0.95),
        cyanophilic=((0.24, 0.31, 0.22), (0.56, 0.20, 0.28)),
        eosinophilic=((0.07, 0.36, 0.85), (0.12, 0.36, 0.42)),
        nucleus=(1.15, 1.38, 0.85),
        speck=(0.35, 0.55, 0.85),
        eosinophilic_share=0.40,
        film=0.35,
        leucocytes=1.8,
    ),
    "grey-rose": Stain(
        glass=(0.80, 0.72, 0.73),
        cyanophilic=((0.58, 0.42, 0.38), (0.66, 0.40, 0.42)),
        eosinophilic=((0.16, 0.62, 0.45), (0.24, 0.72, 0.55)),
        nucleus=(1.25, 1.30, 0.95),
        speck=(0.50, 0.60, 0.60),
        eosinophilic_share=0.5,
        film=0.0,
        leucocytes=0.4,
    ),
    "violet-olive": Stain(
        glass=(0.97, 0.99, 0.94),
        cyanophilic=((0.40, 0.48, 0.12), (0.34, 0.58, 0.22)),
        eosinophilic=((0.22, 0.26, 0.62), (0.30, 0.34, 0.80)),
        nucleus=(1.30, 0.95, 1.20),
        speck=(0.60, 0.55, 0.80),
        eosinophilic_share=0.45,
        film=0.15,
        leucocytes=1.0,
    ),
    "steel-coral": Stain(
        glass=(0.88, 0.92, 0.96),
        cyanophilic=((0.48, 0.34, 0.08), (0.60, 0.44, 0.20)),
        eosinophilic=((0.05, 0.40, 0.50), (0.10, 0.60, 0.66)),
        nucleus=(1.05, 0.98, 0.50),
        speck=(0.70, 0.60, 0.50),
        eosinophilic_share=0.40,
        film=0.0,
        leucocytes=0.7,
    ),
}
"""Stains by name: like real liquid-based and conventional smears, from white to greyish glass."""
USUAL = ("teal-rose", "blue-magenta", "lilac-orange", "grey-rose")
"""Stains chosen by a seed. The base model cytology-base was trained on these only."""
