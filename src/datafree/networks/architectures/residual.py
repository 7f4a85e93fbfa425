"""Classifiers with shortcuts: ResNets for CIFAR and wide ResNets.

By hand, since neither torchvision nor timm has them for CIFAR. Layer names are those of published weights: torchvision's for
ResNet-18/34, the CIFAR ResNets' for ResNet-20/32/56.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from datafree.core.spec import Shape

NormOf = Callable[[int], nn.Module]
"""The norm of so many channels."""


class PaddedShortcut(nn.Module):
    """Shortcut without weights (He et al., arXiv 1512.03385, option A): every `stride`-th pixel, `more` zero channels added."""

    def __init__(self, more: int, stride: int):
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        before = self.more // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.more - before))


class BasicBlock(nn.Module):
    """Post-activation residual block of two 3x3 convolutions (arXiv 1512.03385)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, projected: bool, norm: NormOf = nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = norm(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if projected and (stride != 1 or in_channels != out_channels):
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm(out_channels))
        elif stride != 1 or in_channels != out_channels:
            self.downsample = PaddedShortcut(out_channels - in_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))


def _stage(
    blocks: int, in_channels: int, out_channels: int, stride: int, projected: bool, norm: NormOf = nn.BatchNorm2d
) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride, projected, norm)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1, projected, norm) for _ in range(blocks - 1)))


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm of groups of 8 channels."""
    return nn.GroupNorm(max(1, channels // 8), channels)


class CifarResNet(nn.Module):
    """ResNet-(6n+2) for CIFAR (arXiv 1512.03385, section 4.2): three stages of n blocks; the widths are 1, 2 and 4 `width`."""

    def __init__(self, shape: Shape, classes: int, n: int, width: int = 16, norm: NormOf = nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], width, 3, padding=1, bias=False)
        self.bn1 = norm(width)
        self.layer1 = _stage(n, width, width, 1, projected=False, norm=norm)
        self.layer2 = _stage(n, width, 2 * width, 2, projected=False, norm=norm)
        self.layer3 = _stage(n, 2 * width, 4 * width, 2, projected=False, norm=norm)
        self.linear = nn.Linear(4 * width, classes)
        _he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """ResNet-18/34 with the CIFAR stem: one 3x3 convolution, no pooling; widths are 1, 2, 4 and 8 `width`."""

    def __init__(self, shape: Shape, classes: int, blocks: tuple[int, ...], width: int = 64):
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(blocks[0], width, width, 1, projected=True)
        self.layer2 = _stage(blocks[1], width, 2 * width, 2, projected=True)
        self.layer3 = _stage(blocks[2], 2 * width, 4 * width, 2, projected=True)
        self.layer4 = _stage(blocks[3], 4 * width, 8 * width, 2, projected=True)
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(self.layer4(self.layer3(x)).mean((2, 3)))  # type: ignore[no-any-return]


class PreActivationBlock(nn.Module):
    """Pre-activation block of WRN (Zagoruyko and Komodakis, arXiv 1605.07146)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (x if self.shortcut is None else self.shortcut(active))  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """WRN-depth-width (arXiv 1605.07146): three stages of (depth - 4) / 6 blocks, widths 16k/32k/64k, no dropout."""

    def __init__(self, shape: Shape, classes: int, depth: int, width: float):
        super().__init__()
        blocks = (depth - 4) // 6
        widths = [16, *(max(1, int(16 * width * double)) for double in (1, 2, 4))]
        self.conv1 = nn.Conv2d(shape[0], 16, 3, padding=1, bias=False)
        self.stages = nn.ModuleList(
            nn.Sequential(*(PreActivationBlock(a if i == 0 else b, b, s if i == 0 else 1) for i in range(blocks)))
            for a, b, s in zip(widths, widths[1:], (1, 2, 2), strict=False)
        )
        self.bn = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], classes)
        _he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in self.stages:
            x = stage(x)
        return self.fc(F.relu(self.bn(x)).mean((2, 3)))  # type: ignore[no-any-return]


def _he_normal(network: nn.Module) -> None:
    """He initialisation of every convolution, as the CIFAR ResNets and WRNs were trained from."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
