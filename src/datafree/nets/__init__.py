"""Networks of our own."""

from collections.abc import Callable

from torch import nn

from datafree.nets.classifiers import CLASSIFIERS
from datafree.nets.segmenters import SEGMENTERS
from datafree.nets.shape import Shape

OURS: dict[str, Callable[[Shape, int], nn.Module]] = {**CLASSIFIERS, **SEGMENTERS}
