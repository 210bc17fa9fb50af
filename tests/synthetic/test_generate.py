from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from cytoseg.errors import SlideError
from cytoseg.geometry import Region, Size
from cytoseg.synthetic import generate
from cytoseg.synthetic.draw import Scene, draw_kinds, draw_region, make_scene, with_dyskaryotic
from cytoseg.synthetic.generate import draw_bands, generate_slide, kinds_path, labels_path, slide_scene, write_scene
from cytoseg.synthetic.plan import CELL_KINDS, CELL_SHARES, shares_with
from cytoseg.synthetic.stains import STAINS

Drawn = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(3, mpp=1.0, stain="teal-rose")


@pytest.fixture(scope="module")
def drawn(scene: Scene) -> Drawn:
    return draw_region(scene, Region(0, 0, 500, 600))


@pytest.mark.parametrize("band_px", [37, pytest.param(256, marks=pytest.mark.slow)])
def test_the_height_of_the_bands_changes_nothing(scene: Scene, drawn: Drawn, band_px: int) -> None:
    bands = list(draw_bands(scene, Size(500, 600), band_px=band_px))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in bands]), drawn[1])
    np.testing.assert_array_equal(np.concatenate([picture for picture, _ in bands]), drawn[0])


@pytest.mark.parametrize("mpp", [0.25, 1.0])
def test_any_region_is_part_of_the_same_slide(mpp: float) -> None:
    scene = make_scene(8, mpp=mpp, stain="lilac-orange")
    picture, labels = draw_region(scene, Region(100, 50, 400, 300))
    part, part_labels = draw_region(scene, Region(333, 201, 90, 77))
    np.testing.assert_array_equal(part, picture[151:228, 233:323])
    np.testing.assert_array_equal(part_labels, labels[151:228, 233:323])


def test_the_seed_decides_everything() -> None:
    region = Region(0, 0, 200, 200)
    first, again, other = (draw_region(make_scene(s, mpp=1.0, stain="teal-rose"), region) for s in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).mean() > 0.1


@pytest.mark.parametrize(
    "stain", [pytest.param(stain, marks=() if k % 3 == 0 else pytest.mark.slow) for k, stain in enumerate(STAINS)]
)
def test_nuclei_are_darker_than_cytoplasm_and_cytoplasm_than_glass(stain: str) -> None:
    picture, labels = draw_region(make_scene(4, mpp=1.0, stain=stain), Region(0, 0, 600, 600))
    assert np.unique(labels).tolist() == [0, 1, 2]
    glass, cytoplasm, nucleus = (picture[labels == i].mean() for i in range(3))
    assert nucleus < cytoplasm - 30
    assert cytoplasm < glass - 10


def test_a_plain_threshold_does_not_find_the_nuclei(drawn: Drawn) -> None:
    picture, labels = drawn
    red, truth = picture[..., 0], labels == 2
    best = max(((red < t) & truth).sum() / ((red < t) | truth).sum() for t in range(20, 160, 5))
    assert 0.2 < best < 0.85


def test_cells_have_two_families_of_colour(drawn: Drawn) -> None:
    picture, labels = drawn
    redness = picture[labels == 1][:, 0].astype(int) - picture[labels == 1][:, 2]
    assert (redness > 15).mean() > 0.1
    assert (redness < -15).mean() > 0.1


@pytest.mark.slow
def test_nuclei_are_as_large_as_mpp_says() -> None:
    areas = []
    for mpp in (0.5, 1.0):
        side = int(600 / mpp)
        _, labels = draw_region(make_scene(5, mpp=mpp, stain="grey-rose"), Region(0, 0, side, side))
        _, count = ndimage.label(labels == 2)
        areas.append((labels == 2).sum() * mpp**2 / count)
    # Median radii of 2 to 9 µm; the two slides show different cells of the same population.
    assert all(20 < area < 110 for area in areas)


def test_slide_and_label_map_are_pyramids_with_mpp(tmp_path: Path, drawn: Drawn) -> None:
    rows: list[int] = []
    path = tmp_path / "new" / "made.ome.tif"
    labels = generate_slide(path, size=Size(500, 600), seed=3, mpp=1.0, stain="teal-rose", progress=rows.append)
    assert rows == [512, 600]
    assert labels == tmp_path / "new" / "made.labels.ome.tif"
    assert sorted(p.name for p in path.parent.iterdir()) == ["made.labels.ome.tif", "made.ome.tif"]
    with tifffile.TiffFile(path) as tif, tifffile.TiffFile(labels) as truth:
        assert 'PhysicalSizeX="1.0"' in tif.ome_metadata
        assert [level.shape for level in tif.series[0].levels] == [(600, 500, 3), (300, 250, 3)]
        assert [level.shape for level in truth.series[0].levels] == [(600, 500), (300, 250)]
        assert np.abs(tif.asarray().astype(int) - drawn[0]).mean() < 4
        np.testing.assert_array_equal(truth.asarray(), drawn[1])
        assert set(np.unique(truth.series[0].levels[1].asarray())) <= {0, 1, 2}


def test_the_seed_chooses_a_stain(tmp_path: Path) -> None:
    generate_slide(tmp_path / "a.tif", size=Size(64, 64), seed=1, mpp=2.0)
    generate_slide(tmp_path / "b.tif", size=Size(64, 64), seed=1, mpp=2.0, stain="blue-magenta")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), tifffile.imread(tmp_path / "b.tif"))


def test_an_interrupted_slide_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_slide(tmp_path / "a.ome.tif", size=Size(64, 64), seed=1, mpp=2.0, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_label_map_that_cannot_be_written_leaves_no_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = generate.write_pyramid

    def fails_for_labels(path: Path, *args: object, **options: object) -> None:
        if options.get("categorical"):
            raise SlideError("disk full")
        write(path, *args, **options)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(generate, "write_pyramid", fails_for_labels)
    with pytest.raises(SlideError, match="disk full"):
        generate_slide(tmp_path / "a.ome.tif", size=Size(64, 64), seed=1, mpp=2.0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SlideError, match=r"a\.ome\.tif: cannot be written"):
        generate_slide(tmp_path / "file" / "a.ome.tif", size=Size(8, 8), seed=1)


def test_labels_lie_beside_the_slide() -> None:
    assert labels_path(Path("x/a.ome.tif")) == Path("x/a.labels.ome.tif")
    assert labels_path(Path("x/a.tif")) == Path("x/a.labels.ome.tif")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": Path("a.png")}, r"a\.png: synthetic slides are written as OME-TIFF"),
        ({"size": Size(0, 8)}, "cannot generate a slide of 0 x 8 px"),
        ({"seed": -1}, "the seed is -1"),
        ({"mpp": 0.01}, "0.01 micrometres per pixel"),
        ({"stain": "green"}, "unknown stain 'green'. Choose one of teal-rose"),
    ],
)
def test_impossible_slides_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    given = {"path": Path("a.ome.tif"), "size": Size(8, 8), "seed": 0, "mpp": 1.0, "stain": None} | change
    path = tmp_path / str(given.pop("path"))
    with pytest.raises(SlideError, match=message):
        generate_slide(path, **given)  # type: ignore[arg-type]  # one argument is wrong on purpose


def _share_of_dyskaryotic_nuclei(scene: Scene) -> float:
    region = Region(0, 0, 400, 400)
    kinds, labels = draw_kinds(scene, region), draw_region(scene, region)[1]
    counts = [ndimage.label((kinds == k + 1) & (labels == 2))[1] for k in range(len(CELL_KINDS))]
    return counts[CELL_KINDS.index("dyskaryotic")] / sum(counts)


def test_shares_sum_to_one_and_keep_the_proportions_of_the_others() -> None:
    assert shares_with(0.05) == pytest.approx(tuple(CELL_SHARES.values()))
    some = dict(zip(CELL_KINDS, shares_with(0.4), strict=True))
    assert sum(some.values()) == pytest.approx(1)
    assert some["dyskaryotic"] == 0.4
    assert some["intermediate"] / some["superficial"] == pytest.approx(0.49 / 0.32)


@pytest.mark.slow
def test_the_share_of_dyskaryotic_cells_is_as_chosen(scene: Scene) -> None:
    assert _share_of_dyskaryotic_nuclei(with_dyskaryotic(scene, 0.0)) == 0
    assert _share_of_dyskaryotic_nuclei(with_dyskaryotic(scene, 1.0)) == 1
    assert 0.25 < _share_of_dyskaryotic_nuclei(with_dyskaryotic(scene, 0.5)) < 0.75


def test_every_labelled_pixel_has_a_kind_whatever_the_region(scene: Scene, drawn: Drawn) -> None:
    kinds = draw_kinds(scene, Region(0, 0, 500, 600))
    np.testing.assert_array_equal(kinds > 0, drawn[1] > 0)
    squame = CELL_KINDS.index("squame") + 1
    assert not (kinds[drawn[1] == 2] == squame).any()  # it has no nucleus
    part = draw_kinds(scene, Region(133, 201, 90, 77))
    np.testing.assert_array_equal(part, kinds[201:278, 133:223])


def test_the_kind_map_lies_beside_the_slide_and_is_written_only_if_asked(tmp_path: Path) -> None:
    scene = slide_scene(3, mpp=1.0, stain="teal-rose", dyskaryotic=0.3)
    path, size = tmp_path / "made.ome.tif", Size(300, 600)
    write_scene(path, scene, size, kinds=True)
    names = ["made.kinds.ome.tif", "made.labels.ome.tif", "made.ome.tif"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    np.testing.assert_array_equal(tifffile.imread(kinds_path(path)), draw_kinds(scene, Region(0, 0, 300, 600)))
    assert kinds_path(Path("x/a.tif")) == Path("x/a.kinds.ome.tif")
    write_scene(path, slide_scene(3, mpp=1.0, stain="teal-rose"), size)  # has other cells than that map
    assert sorted(p.name for p in tmp_path.iterdir()) == names[1:]


def test_a_label_map_that_cannot_be_written_leaves_no_kind_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = generate.write_pyramid

    def fails_for_labels(path: Path, *args: object, **options: object) -> None:
        if ".labels." in path.name:
            raise SlideError("disk full")
        write(path, *args, **options)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(generate, "write_pyramid", fails_for_labels)
    with pytest.raises(SlideError, match="disk full"):
        write_scene(tmp_path / "a.ome.tif", make_scene(1, mpp=2.0, stain="teal-rose"), Size(64, 64), kinds=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(SlideError, match=f"the share of dyskaryotic cells is {share}. Use 0 to 1"):
        slide_scene(0, mpp=1.0, stain=None, dyskaryotic=share)
