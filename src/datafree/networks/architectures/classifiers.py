"""The classifiers by name, each a factory `factory((channels, height, width), classes)`."""

from collections.abc import Callable
from functools import partial

from torch import nn

from datafree.core.spec import Shape
from datafree.networks.architectures.attention import ViT
from datafree.networks.architectures.plain import VGG, AlexNet, LeNet5, SmallCNN
from datafree.networks.architectures.residual import CifarResNet, ResNet, WideResNet, group_norm

_VGG8 = (64, 0, 128, 0, 256, 0, 512, 0, 512)
_VGG8_HALF = (32, 0, 64, 0, 128, 0, 256, 0, 256)

CLASSIFIERS: dict[str, Callable[[Shape, int], nn.Module]] = {
    "lenet5": LeNet5,
    "lenet5-half": partial(LeNet5, widths=(3, 8, 60, 42)),  # DFAD's student
    "lenet5-half-zskd": partial(LeNet5, widths=(3, 8, 120, 84)),  # ZSKD's student: only convolutions halved, 35,820 weights
    "alexnet": AlexNet,
    "alexnet-half": partial(AlexNet, halved=2),
    "small-cnn": SmallCNN,
    "small-cnn-half": partial(SmallCNN, width=16),
    "small-cnn-quarter": partial(SmallCNN, width=8),
    "resnet8": partial(CifarResNet, n=1),
    "resnet8-half": partial(CifarResNet, n=1, width=8),
    "resnet8-gn": partial(CifarResNet, n=1, norm=group_norm),
    "resnet8-gn-half": partial(CifarResNet, n=1, width=8, norm=group_norm),
    "resnet20": partial(CifarResNet, n=3),
    "resnet20-half": partial(CifarResNet, n=3, width=8),
    "resnet32": partial(CifarResNet, n=5),
    "resnet56": partial(CifarResNet, n=9),
    "resnet18": partial(ResNet, blocks=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, blocks=(3, 4, 6, 3)),
    "wrn-16-1": partial(WideResNet, depth=16, width=1),
    "wrn-16-2": partial(WideResNet, depth=16, width=2),
    "wrn-40-1": partial(WideResNet, depth=40, width=1),
    "wrn-40-2": partial(WideResNet, depth=40, width=2),
    "vgg8": partial(VGG, plan=_VGG8),
    "vgg8-half": partial(VGG, plan=_VGG8_HALF),
    "vgg8-plain": partial(VGG, plan=_VGG8, norm=False),
    "vgg8-plain-half": partial(VGG, plan=_VGG8_HALF, norm=False),
    "vgg11": partial(VGG, plan=(64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512)),
    "vit-mini": partial(ViT, width=64, depth=3),
    "vit-mini-half": partial(ViT, width=32, depth=3),
}
