from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cytoseg.workflows.run_pictures import save_grid, save_loss_curve


def test_a_grid_holds_the_images_in_reading_order(tmp_path: Path) -> None:
    images = torch.tensor([-1.0, 0.0, 1.0])[:, None, None, None].expand(3, 3, 4, 4)
    save_grid(tmp_path / "grid.png", images)
    with Image.open(tmp_path / "grid.png") as picture:
        grid = np.array(picture)
    assert grid.shape == (10, 10, 3)  # two by two of 4 px with a line of 2 px
    assert (grid[:4, :4] == 0).all()
    assert (grid[:4, 6:] == 128).all()
    assert (grid[6:, :4] == 255).all()
    assert (grid[:4, 4:6] == 255).all()  # the line between them


def test_values_beyond_the_range_are_clipped(tmp_path: Path) -> None:
    save_grid(tmp_path / "grid.png", torch.full((1, 3, 2, 2), 3.0))
    with Image.open(tmp_path / "grid.png") as picture:
        assert (np.array(picture) == 255).all()


def test_of_no_losses_there_is_no_curve(tmp_path: Path) -> None:
    save_loss_curve(tmp_path / "loss.png", [])
    assert list(tmp_path.iterdir()) == []


def test_damaged_rows_of_losses_are_left_out(tmp_path: Path) -> None:
    whole = {"crops_seen": 8, "loss": 0.5, "by_t": {"0-99": 0.25}}
    damaged = [
        {"loss": 1.0},
        {"crops_seen": 4},
        whole | {"loss": "x"},
        whole | {"by_t": []},
        whole | {"by_t": {"a": 1}},
    ]
    save_loss_curve(tmp_path / "none.png", damaged)
    assert list(tmp_path.iterdir()) == []
    save_loss_curve(tmp_path / "loss.png", [*damaged, whole])
    save_loss_curve(tmp_path / "whole.png", [whole])
    assert (tmp_path / "loss.png").read_bytes() == (tmp_path / "whole.png").read_bytes()


def test_a_loss_curve_is_drawn_and_nothing_else_is_left(tmp_path: Path) -> None:
    save_loss_curve(tmp_path / "loss.png", [{"crops_seen": 8 * i, "loss": 1 / i} for i in range(1, 101)])
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]
    with Image.open(tmp_path / "loss.png") as picture:
        pixels = np.array(picture.convert("RGB")).astype(int)
    blue = np.all(abs(pixels - (0, 0x72, 0xB2)) < 30, axis=-1)
    columns = np.flatnonzero(blue.any(axis=0))
    rows = [np.flatnonzero(blue[:, column]).mean() for column in (columns[20], columns[-150])]
    assert rows[0] < rows[1]  # a falling loss falls


def _width_of_curve(path: Path, rows: list[dict[str, float]]) -> int:
    save_loss_curve(path, rows)
    with Image.open(path) as picture:
        return picture.width


@pytest.mark.slow
def test_each_loss_with_a_weight_has_its_panels(tmp_path: Path) -> None:
    of_autoencoder = [{"crops_seen": 8.0 * i, "loss": 1 / i} for i in range(1, 20)]
    rows = [{**row, "by_t": {"0-99": row["loss"]}} for row in of_autoencoder]
    masks = [{**row, "mask_loss": row["loss"]} for row in rows]
    without_denoising = [{**row, "loss": 0.0} for row in masks]
    judged = [{**row, "discriminator_loss": 0.25} for row in of_autoencoder]
    logs = (rows, masks, without_denoising, of_autoencoder, judged)
    widths = [_width_of_curve(tmp_path / f"{i}.png", some) for i, some in enumerate(logs)]
    # Loss and loss by timestep; these and the mask loss; the mask loss; of an autoencoder the loss, and both losses.
    assert widths == [1440, 2160, 720, 720, 1440]
