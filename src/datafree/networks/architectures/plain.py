"""Classifiers without shortcuts: LeNet-5, AlexNet, VGG, and a small one for small images."""

import torch.nn.functional as F
from torch import Tensor, nn

from datafree.core.spec import Shape


class LeNet5(nn.Module):
    """LeNet-5 for 32x32 (LeCun 1998; ReLU and max pooling as in DFAD). Full size: 61,706 weights.

    `widths` are the channels of the two convolutions and the units of the two hidden layers. Raises `ValueError` for inputs
    that are not 32x32.
    """

    def __init__(self, shape: Shape, classes: int, widths: tuple[int, int, int, int] = (6, 16, 120, 84)):
        super().__init__()
        if shape[1:] != (32, 32):
            raise ValueError(
                f"LeNet-5 takes 32x32 inputs, not {shape[1]}x{shape[2]}; pass --inputs {shape[0]}x32x32, "
                "and data are resized to that."
            )
        c1, c2, f1, f2 = widths
        self.conv1 = nn.Conv2d(shape[0], c1, 5)
        self.conv2 = nn.Conv2d(c1, c2, 5)
        self.fc1 = nn.Linear(c2 * 5 * 5, f1)
        self.fc2 = nn.Linear(f1, f2)
        self.fc3 = nn.Linear(f2, classes)

    def forward(self, x: Tensor) -> Tensor:
        # Pooling before the ReLU gives the same numbers (both are monotone) on a quarter of the elements.
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))  # type: ignore[no-any-return]


class AlexNet(nn.Module):
    """AlexNet for CIFAR, as ZSKD and STTSS use it: five convolutions and two hidden linear layers.

    The widths 48, 128, 192, 192, 128 and 512, 256 are those of the papers, divided by `halved` and rounded.
    Kernels are 5, 5, 3, 3, 3, with a 3x3 max pool of stride 2 after the first, second and last; pooling and ReLUs are our
    choice. Raises `ValueError` for sides under 16 pixels.
    """

    def __init__(self, shape: Shape, classes: int, halved: float = 1):
        super().__init__()
        if min(shape[1:]) < 16:
            raise ValueError(
                f"AlexNet halves three times, so inputs need at least 16 pixels a side, not {min(shape[1:])}; "
                "pass larger --inputs."
            )
        c1, c2, c3, c4, c5, f1, f2 = (max(1, round(width / halved)) for width in (48, 128, 192, 192, 128, 512, 256))
        self.features = nn.Sequential(
            *(nn.Conv2d(shape[0], c1, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
            *(nn.Conv2d(c1, c2, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
            *(nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU(), nn.Conv2d(c3, c4, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(c4, c5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        )
        height, width = (-(-side // 8) for side in shape[1:])
        self.classifier = nn.Sequential(
            *(nn.Linear(c5 * height * width, f1), nn.ReLU()),
            *(nn.Linear(f1, f2), nn.ReLU()),
            nn.Linear(f2, classes),
        )
        _keep_variance(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))  # type: ignore[no-any-return]


class SmallCNN(nn.Module):
    """Two 3x3 convolutions with batch norm and one hidden layer, for small images.

    Raises `ValueError` for sides that are not multiples of 4.
    """

    def __init__(self, shape: Shape, classes: int, width: int = 32):
        super().__init__()
        if shape[1] % 4 or shape[2] % 4:
            raise ValueError(
                f"small-cnn halves twice, so {shape[1]}x{shape[2]} must be multiples of 4; pass --inputs with multiples of 4."
            )
        self.conv1 = nn.Conv2d(shape[0], width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.fc1 = nn.Linear(2 * width * (shape[1] // 4) * (shape[2] // 4), 4 * width)
        self.fc2 = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))  # type: ignore[no-any-return]


class VGG(nn.Module):
    """VGG for 32x32 (arXiv 1409.1556), with batch norm unless `norm` is false: 3x3 convolutions and one linear layer.

    `plan` holds the channels of each convolution; 0 is a 2x2 max pool. Raises `ValueError` for sides that are too small.
    """

    def __init__(self, shape: Shape, classes: int, plan: tuple[int, ...], norm: bool = True):
        super().__init__()
        smallest = 2 ** plan.count(0)
        if min(shape[1:]) < smallest:
            raise ValueError(
                f"VGG halves {plan.count(0)} times, so inputs need at least {smallest} pixels a side, not {min(shape[1:])}; "
                "pass larger --inputs."
            )
        layers: list[nn.Module] = []
        channels = shape[0]
        for width in plan:
            if width == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            layers += [nn.BatchNorm2d(width), nn.ReLU()] if norm else [nn.ReLU()]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)
        if not norm:
            _keep_variance(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))  # type: ignore[no-any-return]


def _keep_variance(network: nn.Module) -> None:
    """He initialisation: with torch's default weights, deep networks without norms stay at chance for epochs."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
