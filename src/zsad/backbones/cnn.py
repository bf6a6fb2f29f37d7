"""Small convolutional networks: one vector per image. ResNet-18 with its published weights, and one to be learned."""

from __future__ import annotations

from http.client import HTTPException

import torch
import torch.nn.functional as F
from huggingface_hub import constants
from torch import Tensor, nn

from zsad.backbones.files import read_tensors
from zsad.backbones.registry import IMAGENET_MEAN, IMAGENET_STD
from zsad.download import UrlFile, cache_folder, fetch
from zsad.errors import ZsadError

#: torchvision's ResNet18_Weights.IMAGENET1K_V1 (BSD-3-Clause). The name of the file carries the beginning of its hash;
#: the whole hash and the size are those that public scripts check it with. It was not downloaded here.
RESNET18 = UrlFile(
    "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    46_830_571,
)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around which the input is carried (He et al. 2016, Fig. 2); [B, C, H, W]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        carried = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + carried)


class ResNet18(nn.Module):
    """ResNet-18 without its classifier (He et al. 2016, Table 1), with the tensor names of torchvision."""

    width = 512  # of the vector

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        for i, (inputs, outputs) in enumerate(((64, 64), (64, 128), (128, 256), (256, 512)), start=1):
            first = ResidualBlock(inputs, outputs, stride=1 if i == 1 else 2)
            self.add_module(f"layer{i}", nn.Sequential(first, ResidualBlock(outputs, outputs, stride=1)))

    def forward(self, images: Tensor) -> Tensor:
        """Mean of the last feature map, [B, 512], of images [B, 3, H, W] with ImageNet's mean and deviation."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, padding=1)
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
        return x.mean((2, 3))


class SmallCNN(nn.Sequential):
    """Three strided convolutions, 76,512 parameters; images [B, 3, H, W] to one vector each, [B, 96]."""

    width = 96  # of the vector

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs, side, stride in ((3, 32, 5, 4), (32, 64, 3, 2), (64, 96, 3, 2)):
            convolution = nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)
            layers += [convolution, nn.GroupNorm(1, outputs), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def load_resnet18(device: torch.device, source: UrlFile = RESNET18) -> ResNet18:
    """ResNet-18 with its published ImageNet weights, frozen; downloaded once and checked.

    Raises:
        ZsadError: If the file is neither in the cache nor to be had, is damaged, or holds other tensors.
    """
    folder = cache_folder() / "resnet18"
    try:
        path, _ = fetch(source, folder, offline=constants.HF_HUB_OFFLINE)
    except (OSError, HTTPException, ZsadError) as error:
        raise ZsadError(
            f"no ResNet-18: tried {source.url} ({error}).\n"
            f"  Copy the file from a machine with network to {folder}, or use the small CNN: --set cnn=small"
        ) from error
    state = {name: tensor for name, tensor in read_tensors(path).items() if not name.startswith("fc.")}
    model = ResNet18()
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ZsadError(f"{path} does not hold the tensors of ResNet-18: {error}") from error
    return model.to(device).eval().requires_grad_(False)


def imagenet_normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Images [B, 3, H, W] normalised with a backbone's mean and deviation, normalised with ImageNet's instead.

    >>> imagenet_normalised(torch.zeros(1, 3, 1, 1), IMAGENET_MEAN, (1.0, 1.0, 1.0)).abs().max().item()
    0.0
    """
    own_mean, own_std, new_mean, new_std = (
        images.new_tensor(values)[:, None, None] for values in (mean, std, IMAGENET_MEAN, IMAGENET_STD)
    )
    return (images * own_std + own_mean - new_mean) / new_std
