"""Images with the number of channels that a network takes."""

from torch import Tensor


def as_channels(pictures: Tensor, channels: int) -> Tensor:
    """Give images the channels of a network: slides, crops and tiles are RGB until they reach it.

    Args:
        pictures: (N, 3, H, W) RGB, or (N, 1, H, W) grey.
        channels: ``diffusion.channels``: 3 for RGB, 1 for grey.

    Returns:
        (N, channels, H, W); grey is the mean of red, green and blue, and values of a grey image are unchanged.
    """
    if pictures.shape[1] == channels:
        return pictures
    if channels > 1:
        return pictures.expand(-1, channels, -1, -1)
    red, green, blue = pictures[:, :1], pictures[:, 1:2], pictures[:, 2:]
    return green + ((red - green) + (blue - green)) / 3  # the mean, and exact where all three are equal
