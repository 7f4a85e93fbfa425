"""Networks that classify every pixel: DeepLabV3 on ResNet-50 and on MobileNetV2, and a compact pair for CPUs."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.core.spec import Shape


def _conv(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, padded so that only its stride changes the size, then batch norm."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, dilation * (kernel // 2), dilation, groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


class Bottleneck(nn.Module):
    """Bottleneck block of ResNet-50 (arXiv 1512.03385), the stride or dilation in its 3x3 convolution."""

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int):
        super().__init__()
        out_channels = 4 * width
        self.one = _conv(in_channels, width, 1)
        self.two = _conv(width, width, 3, stride, dilation)
        self.three = _conv(width, out_channels, 1)
        self.shortcut = (
            nn.Identity() if stride == 1 and in_channels == out_channels else _conv(in_channels, out_channels, 1, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.three(F.relu(self.two(F.relu(self.one(x)))))
        return F.relu(out + self.shortcut(x))


class ResNet50(nn.Sequential):
    """ResNet-50 without its head at output stride 8: the last two stages have dilation 2 and 4 instead of stride 2."""

    channels = 2048

    def __init__(self, channels: int):
        stem = nn.Sequential(_conv(channels, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
        stages, in_channels = [], 64
        for blocks, width, stride, dilation in ((3, 64, 1, 1), (4, 128, 2, 1), (6, 256, 1, 2), (3, 512, 1, 4)):
            for i in range(blocks):
                first = max(1, dilation // 2)  # the block that lost its stride still reads the map of the stage before
                stages.append(Bottleneck(in_channels, width, stride if i == 0 else 1, first if i == 0 else dilation))
                in_channels = 4 * width
        super().__init__(stem, *stages)


class InvertedResidual(nn.Module):
    """Inverted residual block of MobileNetV2 (arXiv 1801.04381)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int, dilation: int):
        super().__init__()
        width = in_channels * expansion
        expand = [_conv(in_channels, width, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        depthwise = [_conv(width, width, 3, stride, dilation, groups=width), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*expand, *depthwise, _conv(width, out_channels, 1))
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.shortcut else out


class MobileNetV2(nn.Sequential):
    """MobileNetV2 (arXiv 1801.04381, table 2) without its last layers at output stride 8: later strides become dilation."""

    def __init__(self, channels: int, width: float = 1.0):
        plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
        in_channels = _rounded(32 * width)
        layers: list[nn.Module] = [_conv(channels, in_channels, 3, 2), nn.ReLU6(inplace=True)]
        stride, dilation = 2, 1
        for expansion, out_channels, blocks, step in plan:
            out_channels, before = _rounded(out_channels * width), dilation
            if stride == 8 and step == 2:
                step, dilation = 1, dilation * 2
            stride *= step
            for i in range(blocks):
                layers.append(
                    InvertedResidual(
                        in_channels, out_channels, step if i == 0 else 1, expansion, before if i == 0 else dilation
                    )
                )
                in_channels = out_channels
        super().__init__(*layers)
        self.channels = in_channels


def _rounded(channels: float) -> int:
    """`channels` rounded to a multiple of 8, but not down by more than a tenth (as in MobileNetV2's code)."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (DeepLabV3, arXiv 1706.05587): 1x1, dilated 3x3 convolutions, and the image's mean."""

    def __init__(self, in_channels: int, width: int, rates: tuple[int, ...], dropout: float):
        super().__init__()
        self.branches = nn.ModuleList(
            [_conv(in_channels, width, 1), *(_conv(in_channels, width, 3, 1, rate) for rate in rates)]
        )
        self.image = _conv(in_channels, width, 1)
        self.merge = _conv((len(rates) + 2) * width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        maps = [F.relu(branch(x)) for branch in self.branches]
        whole = F.relu(self.image(x.mean((2, 3), keepdim=True)))
        maps.append(whole.expand_as(maps[0]))
        return self.dropout(F.relu(self.merge(torch.cat(maps, dim=1))))  # type: ignore[no-any-return]


class DeepLabV3(nn.Module):
    """DeepLabV3 (arXiv 1706.05587) as in DFAD's code: ASPP of 256 channels at rates 12, 24, 32, then 3x3, norm, ReLU, 1x1.

    The logits [B, classes, H, W] have the input's size, by bilinear upsampling.
    """

    def __init__(self, shape: Shape, classes: int, backbone: Callable[[int], nn.Module], width: int = 256,
                 rates: tuple[int, ...] = (12, 24, 32), dropout: float = 0.5):  # fmt: skip
        super().__init__()
        self.backbone = backbone(shape[0])
        channels = self.backbone.channels
        assert isinstance(channels, int)
        self.aspp = ASPP(channels, width, rates, dropout)
        self.head = nn.Sequential(_conv(width, width), nn.ReLU(inplace=True), nn.Conv2d(width, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        logits = self.head(self.aspp(self.backbone(x)))
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)


class CompactBackbone(nn.Sequential):
    """Plain 3x3 convolutions with three strides of 2, and dilations 2 and 4 at the end, for CPUs (ours)."""

    def __init__(self, channels: int, width: int = 32):
        plan = ((channels, width, 2, 1), (width, 2 * width, 2, 1), (2 * width, 2 * width, 1, 1), (2 * width, 4 * width, 2, 1),
                (4 * width, 4 * width, 1, 2), (4 * width, 4 * width, 1, 4))  # fmt: skip
        layers: list[nn.Module] = []
        for in_channels, out_channels, stride, dilation in plan:
            layers += [_conv(in_channels, out_channels, 3, stride, dilation), nn.ReLU(inplace=True)]
        super().__init__(*layers)
        self.channels = 4 * width


def _compact(shape: Shape, classes: int, width: int) -> nn.Module:
    return DeepLabV3(shape, classes, partial(CompactBackbone, width=width), 2 * width, rates=(2, 4, 6), dropout=0.0)


SEGMENTERS: dict[str, Callable[[Shape, int], nn.Module]] = {
    "deeplabv3-resnet50": partial(DeepLabV3, backbone=ResNet50),
    "deeplabv3-mobilenetv2": partial(DeepLabV3, backbone=MobileNetV2),
    "compact-segmenter": partial(_compact, width=32),
    "compact-segmenter-half": partial(_compact, width=16),
}
