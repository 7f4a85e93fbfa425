"""Networks of our own."""

from collections.abc import Callable

from torch import nn

from datafree.core.spec import Shape
from datafree.networks.architectures.classifiers import CLASSIFIERS
from datafree.networks.architectures.segmenters import SEGMENTERS

OURS: dict[str, Callable[[Shape, int], nn.Module]] = {**CLASSIFIERS, **SEGMENTERS}
