"""``cytoseg slides``: inspecting, converting and generating slides."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cytoseg.errors import SlideError, report
from cytoseg.geometry import Size
from cytoseg.leftovers import sweep_beside
from cytoseg.locks import locked
from cytoseg.patterns import on_disk
from cytoseg.slides.convert import convert_slide
from cytoseg.slides.ngff import is_slide_folder
from cytoseg.slides.open import check_whole, find_slides, open_slide, slide_id
from cytoseg.slides.settings import BackgroundSection
from cytoseg.slides.tissue_mask import tissue_mask
from cytoseg.synthetic.crops import generate_labelled_crops
from cytoseg.synthetic.generate import kinds_path, slide_scene, write_scene
from cytoseg.synthetic.stains import STAINS
from cytoseg.terminal import cells, console, progress, say
from cytoseg.writing import PATIENCE_S


def info(
    slides: Annotated[list[Path], typer.Argument(metavar="SLIDE|FOLDER...", help="Slides, or folders of slides.")],
) -> None:
    """Show size, levels, micrometres per pixel and tissue share of slides, and which of several images is read."""
    table, notes, problems = Table("slide", "size", "levels", "mpp (µm)", "tissue"), [], []
    for path in [path for given in slides for path in _slides_in(on_disk(given))]:
        try:
            with open_slide(path) as slide:
                check_whole(slide)
                size = slide.levels[0].size
                levels = ", ".join(f"1/{level.downsample:g}" for level in slide.levels)
                mpp = "not stated" if slide.mpp is None else f"{slide.mpp:.4g}"
                share = tissue_mask(slide, BackgroundSection()).share()
                table.add_row(*cells(path.name, f"{size.width} x {size.height}", levels, mpp, f"{share:.0%}"))
                if slide.note:
                    notes.append(f"{path.name}: {slide.note}")
        except SlideError as error:
            problems.append(str(error))
    if table.row_count:
        console.print(table)
    for note in notes:
        say(note)
    if problems:
        raise SlideError(report(problems, what="slides info"))


def generate(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of slides.")] = 4,
    width: Annotated[int, typer.Option("--width", min=256, max=200_000, help="Width in pixels.")] = 2048,
    height: Annotated[int, typer.Option("--height", min=256, max=200_000, help="Height in pixels.")] = 2048,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Slide i is a function of (seed, i).")] = 0,
    mpp: Annotated[float, typer.Option("--mpp", min=0.1, max=4.0, help="Micrometres per pixel.")] = 0.5,
    crops: Annotated[int, typer.Option("--crops", min=0, help="Labelled crops to cut from each slide.")] = 4,
    crop_px: Annotated[int, typer.Option("--crop-px", min=64, max=2048, help="Side of a labelled crop.")] = 256,
    stain: Annotated[
        list[str] | None,
        typer.Option(
            "--stain", help=f"One of {', '.join(STAINS)}; if repeated, slides alternate. Default: by the seed."
        ),
    ] = None,
    dyskaryotic: Annotated[
        float | None,
        typer.Option(
            "--dyskaryotic",
            min=0.0,
            max=1.0,
            help="Share of dyskaryotic cells, usually 0.05; also writes a map of each cell's kind.",
        ),
    ] = None,
) -> None:
    """Generate cytology-like slides with exact label maps and labelme annotations of some crops.

    Writes FOLDER/slides/*.ome.tif with their label maps, and FOLDER/labelled/*.png with labelme JSON, ready for
    train-ddpm and label-import. Existing slides are kept, and named if they are of another size. With --dyskaryotic
    also *.kinds.ome.tif: 1 intermediate, 2 superficial, 3 parabasal, 4 dyskaryotic, 5 squame, 0 elsewhere, exact ground
    truth for finding abnormal cells.
    """
    for number in range(n):
        path = out / "slides" / f"made_{seed}_{number:02d}.ome.tif"
        for output in (path, out / "labelled" / slide_id(path)):
            sweep_beside(output)
        # Two commands at once could mix the slide of one with the label map of the other.
        with locked(path, wait_s=PATIENCE_S, error=SlideError):
            if path.exists():
                _say_if_other(path, Size(width, height), mpp, kinds=dyskaryotic is not None)
            else:
                with progress(path.name, height) as bar:
                    chosen = stain[number % len(stain)] if stain else None
                    size, own_seed = Size(width, height), seed * 10_007 + number
                    scene = slide_scene(own_seed, mpp=mpp, stain=chosen, dyskaryotic=dyskaryotic)
                    write_scene(path, scene, size, kinds=dyskaryotic is not None, progress=bar.update)
                    bar.update(height)
            if crops and len(list((out / "labelled").glob(f"made_{seed}_{number:02d}_*.json"))) < crops:
                generate_labelled_crops(path, out / "labelled", n=crops, side_px=crop_px, seed=seed)
    say(f"{n} slides in {out / 'slides'}, {n * crops} labelled crops in {out / 'labelled'}")


def _say_if_other(path: Path, size: Size, mpp: float, *, kinds: bool) -> None:
    """Report an existing slide that is not as it was asked for."""
    with open_slide(path) as slide:
        found, own_mpp = slide.levels[0].size, slide.mpp
    if (found, own_mpp) != (size, mpp) or (kinds and not kinds_path(path).exists()):
        scale = "" if own_mpp is None else f" at {own_mpp:g} µm per pixel"
        say(f"{path.name}: kept as it was, {found.width} x {found.height} px{scale}. Remove it to generate it again.")


def convert(
    slide: Annotated[Path, typer.Argument(metavar="SLIDE", help="Any readable slide.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.ome.tif|OUT.zarr", help="Output file; must not exist.")],
) -> None:
    """Convert a slide to a pyramid in OME-TIFF (JPEG) or OME-Zarr (lossless).

    Of several images in a file, the one that all commands read is converted.
    """
    with open_slide(slide) as source, progress(slide.name, source.levels[0].size.height) as bar:
        if source.note:
            say(f"{slide.name}: {source.note}")
        convert_slide(source, out, on_row=bar.update)
    say(f"See {out}")


def _slides_in(given: Path) -> list[Path]:
    return find_slides([given], ["**/*"]) if given.is_dir() and not is_slide_folder(given) else [given]


VERBS = {"info": info, "convert": convert, "generate": generate}
