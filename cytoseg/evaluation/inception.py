"""The Inception network of published FIDs, from a local weight file."""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoseg.diffusion.import_lucidrains import import_torchvision
from cytoseg.errors import CheckpointError
from cytoseg.torch_files import read_torch_file

PUBLISHED = "6726825d"
"""First digits of the SHA-256 of pt_inception-2015-12-05, which published FIDs come from."""
_SIDE_PX = 299
_CLASSES = 1008
_SPATIAL_CHANNELS = 7
_TOGETHER = 8
_COUNTED = "num_batches_tracked"
"""Suffix of tensors that only training needs, and older files lack."""
_WANTED = "Name pt_inception-2015-12-05-6726825d.pth, which pytorch-fid and torch-fidelity use."


class Inception:
    """The network in evaluation mode, with the hash of its weight file.

    Args:
        path: A .pth file with a dictionary of tensors; code in it is never run, and nothing is downloaded.

    Raises:
        CheckpointError: If the file is missing, too large, damaged, or holds another network.
    """

    def __init__(self, path: Path) -> None:
        weights = _read(path)
        with path.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with torch.device("meta"):  # only the shapes are needed: all weights come from the file
            self._network: Any = _network()
        own = {name: tensor for name, tensor in self._network.state_dict().items() if not name.endswith(_COUNTED)}
        weights = {name: tensor for name, tensor in weights.items() if not name.endswith(_COUNTED)}
        strange = [n for n in (*own, *weights) if n not in own or n not in weights or own[n].shape != weights[n].shape]
        if strange:
            raise CheckpointError(f"{path}: is not Inception with {_CLASSES} classes ({strange[0]}). {_WANTED}")
        self._network.load_state_dict({n: tensor.float() for n, tensor in weights.items()}, strict=False, assign=True)
        self._network.eval()

    @property
    def name(self) -> str:
        """``inception``, which identifies the published weights; otherwise with a remark."""
        return "inception" if self.sha256.startswith(PUBLISHED) else "inception with other weights than published"

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute features and class probabilities.

        Args:
            pictures: (N, 3, H, W) in [-1, 1]; enlarged to 299 px as pytorch-fid does.

        Returns:
            (N, 2048) pooled features; (N, 2023) spatial features: the first 7 channels of the 1x1 branch of the seventh
            mixed block; and (N, 1008) probabilities without the bias of the last layer, as Inception scores take them.
        """
        whole, spatial, classes = [], [], []
        seen: list[Tensor] = []
        handle = self._network.Mixed_6d.branch1x1.register_forward_hook(lambda _m, _i, out: seen.append(out))
        try:
            for part in torch.split(pictures, _TOGETHER):
                large = F.interpolate(part, (_SIDE_PX, _SIDE_PX), mode="bilinear", align_corners=False)
                pooled = self._pooled(large)
                whole.append(pooled)
                spatial.append(seen.pop()[:, :_SPATIAL_CHANNELS].flatten(1))
                classes.append((pooled @ self._network.fc.weight.T).softmax(1))
        finally:
            handle.remove()
        return torch.cat(whole), torch.cat(spatial), torch.cat(classes)

    def _pooled(self, pictures: Tensor) -> Tensor:
        x = pictures
        for name, layer in self._network.named_children():
            if name == "avgpool":
                return F.adaptive_avg_pool2d(x, 1).flatten(1)
            x = layer(x)
        raise AssertionError("the network has no pooling")


def _network() -> nn.Module:
    """Build torchvision's Inception with the four kinds of blocks that differ in TensorFlow's of 2015."""
    import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of slow initial weights, which are replaced
        from pytorch_fid import inception as fid  # type: ignore[import-untyped] # no stubs; needs the torchvision that the line above patches

        network: nn.Module = fid._inception_v3(num_classes=_CLASSES, aux_logits=False, weights=None)
    network.Mixed_5b = fid.FIDInceptionA(192, pool_features=32)
    network.Mixed_5c = fid.FIDInceptionA(256, pool_features=64)
    network.Mixed_5d = fid.FIDInceptionA(288, pool_features=64)
    network.Mixed_6b = fid.FIDInceptionC(768, channels_7x7=128)
    network.Mixed_6c = fid.FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6d = fid.FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6e = fid.FIDInceptionC(768, channels_7x7=192)
    network.Mixed_7b = fid.FIDInceptionE_1(1280)
    network.Mixed_7c = fid.FIDInceptionE_2(2048)
    return network


def _read(path: Path) -> dict[str, Tensor]:
    found = read_torch_file(path, advice=_WANTED)
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise CheckpointError(f"{path}: is not a dictionary of tensors. {_WANTED}")
    return found
