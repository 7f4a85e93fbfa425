"""The architectures of this package."""

from collections.abc import Callable

from torch import nn

from datafree.core.spec import Shape
from datafree.networks.architectures.classifiers import CLASSIFIERS
from datafree.networks.architectures.segmenters import SEGMENTERS
from datafree.networks.architectures.sized import SIZED

ARCHITECTURES: dict[str, Callable[[Shape, int], nn.Module]] = {**CLASSIFIERS, **SEGMENTERS, **SIZED}
