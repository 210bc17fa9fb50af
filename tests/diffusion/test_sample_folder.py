import dataclasses
import functools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cytoseg.diffusion import sample_folder
from cytoseg.diffusion.sample_folder import SampleOrigin, open_folder, ranges, sample_path
from cytoseg.errors import CytosegError

ORIGIN = SampleOrigin("ddim", steps=50, seed=0, size_px=64, crops_seen=12_000, sha256="5f1c09ab" * 8)
OWN = "ddim50_seed0_64px_000012000_5f1c09ab"


def test_samples_lie_by_their_number(tmp_path: Path) -> None:
    assert sample_path(tmp_path, 7) == tmp_path / "sample_00007.png"
    assert sample_path(tmp_path, 123_456) == tmp_path / "sample_123456.png"


def test_a_free_folder_is_taken_and_says_what_it_holds(tmp_path: Path) -> None:
    assert open_folder(tmp_path / "samples", ORIGIN) == tmp_path / "samples"
    assert json.loads((tmp_path / "samples" / "samples.json").read_text()) == {
        "format": 1,
        "sampler": "ddim",
        "steps": 50,
        "seed": 0,
        "size_px": 64,
        "crops_seen": 12_000,
        "sha256": "5f1c09ab" * 8,
    }
    assert open_folder(tmp_path / "samples", ORIGIN) == tmp_path / "samples"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"sampler": "ddpm"}, "ddpm50_seed0_64px_000012000_5f1c09ab"),
        ({"maps": "ab" * 32, "scale": 2.0}, "ddim50_seed0_64px_000012000_5f1c09ab_mapsababababx2"),
        (
            {"maps": "ab" * 32, "scale": 0.3, "interpreter": "cd" * 32},
            "ddim50_seed0_64px_000012000_5f1c09ab_mapsababababx0.3_cdcdcdcd",
        ),
        ({"steps": 20}, "ddim20_seed0_64px_000012000_5f1c09ab"),
        ({"seed": 3}, "ddim50_seed3_64px_000012000_5f1c09ab"),
        ({"size_px": 128}, "ddim50_seed0_128px_000012000_5f1c09ab"),
        ({"crops_seen": 16_000}, "ddim50_seed0_64px_000016000_5f1c09ab"),
        ({"sha256": "12345678" * 8}, "ddim50_seed0_64px_000012000_12345678"),
    ],
)
def test_samples_of_another_origin_have_a_folder_of_their_own(
    tmp_path: Path, change: dict[str, object], name: str
) -> None:
    open_folder(tmp_path, ORIGIN)
    other = dataclasses.replace(ORIGIN, **change)  # type: ignore[arg-type] # each change fits its field
    assert open_folder(tmp_path, other) == tmp_path / name
    assert open_folder(tmp_path, other) == tmp_path / name
    assert open_folder(tmp_path, ORIGIN) == tmp_path


@pytest.mark.parametrize("about", [None, '{"format": 1, "sam', "[]", b"\xff\xfe"])
def test_unexplained_samples_are_left_alone(tmp_path: Path, about: str | bytes | None) -> None:
    sample_path(tmp_path, 0).touch()
    if about is not None:
        (tmp_path / "samples.json").write_bytes(about.encode() if isinstance(about, str) else about)
    assert open_folder(tmp_path, ORIGIN) == tmp_path / OWN
    sample_path(tmp_path / OWN, 0).touch()
    (tmp_path / OWN / "samples.json").unlink()
    with pytest.raises(CytosegError, match=rf"{OWN}: holds samples that its samples.json does not describe. Remove"):
        open_folder(tmp_path, ORIGIN)


def test_ranges() -> None:
    assert ranges([0, 1, 2, 3, 7]) == "0-3, 7"
    assert ranges([5]) == "5"
    assert ranges([1, 3, 4]) == "1, 3-4"


def test_two_commands_at_once_do_not_mix_their_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sample_folder._belongs

    def slow(folder: Path, origin: SampleOrigin) -> bool:
        found = real(folder, origin)
        time.sleep(0.1)
        return found

    monkeypatch.setattr(sample_folder, "_belongs", slow)
    other = dataclasses.replace(ORIGIN, seed=1)
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(functools.partial(open_folder, tmp_path / "samples"), (ORIGIN, other))
    assert {one.name, two.name} in ({"samples", name} for name in (OWN, OWN.replace("seed0", "seed1")))
    assert json.loads((one / "samples.json").read_text())["seed"] == 0
    assert json.loads((two / "samples.json").read_text())["seed"] == 1
