"""Designs of this package in any size, as the options `depth` and `width` say: what smaller students are made of."""

from collections.abc import Callable
from functools import partial

from torch import nn

from datafree.core.spec import Shape
from datafree.networks.architectures.attention import ViT
from datafree.networks.architectures.plain import VGG, AlexNet, LeNet5
from datafree.networks.architectures.residual import CifarResNet, NormOf, ResNet, WideResNet, group_norm

_BLOCKS: dict[int, tuple[int, ...]] = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_PLANS: dict[int, tuple[int, ...]] = {  # times the width; 0 is a pool
    8: (1, 0, 2, 0, 4, 0, 8, 0, 8),
    11: (1, 0, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8),
}


def _cifar_resnet(shape: Shape, classes: int, depth: int = 20, width: int = 16, norm: NormOf = nn.BatchNorm2d) -> nn.Module:
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"A ResNet for CIFAR has a depth of 8, 14, 20 and so on, not {depth}; pass another depth.")
    return CifarResNet(shape, classes, depth // 6, width, norm)


def _wide_resnet(shape: Shape, classes: int, depth: int = 16, width: float = 1) -> nn.Module:
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"A WRN has a depth of 10, 16, 22 and so on, not {depth}; pass another depth.")
    return WideResNet(shape, classes, depth, width)


def _resnet(shape: Shape, classes: int, depth: int = 18, width: int = 64) -> nn.Module:
    return ResNet(shape, classes, _of_depth(_BLOCKS, depth, "ResNet"), width)


def _vgg(shape: Shape, classes: int, depth: int = 8, width: int = 64, norm: bool = True) -> nn.Module:
    return VGG(shape, classes, tuple(width * times for times in _of_depth(_PLANS, depth, "VGG")), norm)


def _of_depth(plans: dict[int, tuple[int, ...]], depth: int, name: str) -> tuple[int, ...]:
    if depth not in plans:
        raise ValueError(f"A {name} here has a depth of {' or '.join(map(str, plans))}, not {depth}; pass one of these.")
    return plans[depth]


def _lenet(shape: Shape, classes: int, width: int = 6) -> nn.Module:
    """LeNet-5 with all widths in the proportions of the original, the first of which is `width`."""
    first, second, third, fourth = (max(1, round(each * width / 6)) for each in (6, 16, 120, 84))
    return LeNet5(shape, classes, (first, second, third, fourth))


def _alexnet(shape: Shape, classes: int, width: int = 48) -> nn.Module:
    return AlexNet(shape, classes, 48 / width)


def _vit(shape: Shape, classes: int, depth: int = 3, width: int = 64, heads: int = 4) -> nn.Module:
    return ViT(shape, classes, width, depth, heads)


SIZED: dict[str, Callable[[Shape, int], nn.Module]] = {
    "cifar-resnet": _cifar_resnet,
    "cifar-resnet-gn": partial(_cifar_resnet, norm=group_norm),
    "resnet": _resnet,
    "wrn": _wide_resnet,
    "vgg": _vgg,
    "vgg-plain": partial(_vgg, norm=False),
    "lenet": _lenet,
    "alex": _alexnet,
    "vit": _vit,
}
