"""Families of architectures of this package: one design in several depths and widths."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from datafree.core.settings import Option
from datafree.networks.network import Card

SMALL = 64  # pixels a side, up to which the designs for small images come into question for any teacher


@dataclass(frozen=True)
class Variant:
    """An architecture that may be a student, of which no size is known yet.

    Args:
        architecture: its name.
        options: keyword arguments of its factory.
        kin: whether it is of the teacher's own family.
        imbalance: 0 where depth and width take an equal part in shrinking the teacher, more the more one of them does.
    """

    architecture: str
    options: dict[str, Option] = field(default_factory=dict)
    kin: bool = True
    imbalance: float = 0.0


@dataclass(frozen=True)
class Family:
    """One design: `architecture` takes the options `depth` and `width`.

    Args:
        architecture: its name in `ARCHITECTURES`.
        depths: depths that come into question; none if it has no option of depth.
        widths: widths that come into question.
        members: depth and width of the names of fixed size.
    """

    architecture: str
    depths: tuple[int, ...]
    widths: tuple[float, ...]
    members: Mapping[str, tuple[int, float]]

    def size_of(self, card: Card) -> tuple[float, float] | None:
        """Depth and width of the network of `card`; None if it is not of this family, or in a size that is not known."""
        if card.architecture not in (self.architecture, *self.members):
            return None
        depth, width = self.members.get(card.architecture, self.members.get(self.architecture, (0, 0)))
        sizes = (card.options.get("depth", depth), card.options.get("width", width))
        if not all(isinstance(size, int | float) and size > 0 for size in sizes):
            return None
        return sizes  # type: ignore[return-value]

    def variants(self, card: Card) -> Iterator[Variant]:
        """The sizes: of the family of the network of `card` those no deeper and no wider than it, without its own; of another
        family every other depth and width.
        """
        size = self.size_of(card)
        depth, width = size or (math.inf, math.inf)
        others = {name: value for name, value in card.options.items() if size and name not in ("depth", "width", "n")}
        every = slice(None, None, 1 if size else 2)
        for each, wide in itertools.product(self.depths[every] or (None,), self.widths[every]):
            if (each or 0) > depth or wide > width or ((each or depth), wide) == (depth, width):
                continue
            sizes: dict[str, Option] = ({} if each is None else {"depth": each}) | {"width": wide}
            imbalance = _imbalance(depth / each if each else 1, width / wide) if size else 0.0
            yield Variant(self.architecture, others | sizes, size is not None, imbalance)


def _imbalance(shallower: float, narrower: float) -> float:
    """Distance between the parts that depth and width take: weights and compute grow with the depth, and the width squared."""
    return abs(math.log(shallower) - 2 * math.log(narrower))


_CHANNELS = (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
_CIFAR_DEPTHS = tuple(range(8, 57, 6))

FAMILIES = (
    Family(
        "cifar-resnet",
        (*_CIFAR_DEPTHS, 110),
        _CHANNELS,
        {"cifar-resnet": (20, 16), "resnet8": (8, 16), "resnet8-half": (8, 8), "resnet20": (20, 16), "resnet20-half": (20, 8)}
        | {"resnet32": (32, 16), "resnet56": (56, 16)},
    ),
    Family(
        "cifar-resnet-gn",
        _CIFAR_DEPTHS,
        (4, 8, 16, 24, 32),
        {"cifar-resnet-gn": (20, 16), "resnet8-gn": (8, 16), "resnet8-gn-half": (8, 8)},
    ),
    Family("resnet", (10, 18, 34), (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64),
           {"resnet": (18, 64), "resnet18": (18, 64), "resnet34": (34, 64)}),
    Family(
        "wrn",
        (10, 16, 22, 28, 34, 40),
        (0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 6, 8, 10),
        {"wrn": (16, 1), **{f"wrn-{depth}-{width}": (depth, width) for depth in (16, 40) for width in (1, 2)}},
    ),
    Family("vgg", (8, 11), (8, 12, 16, 24, 32, 48, 64),
           {"vgg": (8, 64), "vgg8": (8, 64), "vgg8-half": (8, 32), "vgg11": (11, 64)}),
    Family(
        "vgg-plain",
        (8, 11),
        (8, 12, 16, 24, 32, 48, 64),
        {"vgg-plain": (8, 64), "vgg8-plain": (8, 64), "vgg8-plain-half": (8, 32)},
    ),
    Family(
        "vit",
        tuple(range(1, 13)),
        (*range(8, 68, 4), 80, 96, 128, 192, 256, 384),
        {"vit": (3, 64), "vit-mini": (3, 64), "vit-mini-half": (3, 32)},
    ),
    Family("small-cnn", (), (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32),
           {"small-cnn": (1, 32), "small-cnn-half": (1, 16), "small-cnn-quarter": (1, 8)}),
    Family("lenet", (), (1, 2, 3, 4, 5, 6), {"lenet": (1, 6), "lenet5": (1, 6), "lenet5-half": (1, 3)}),
    Family("alex", (), tuple(range(4, 50, 2)), {"alex": (1, 48), "alexnet": (1, 48), "alexnet-half": (1, 24)}),
    Family(
        "compact-segmenter", (), tuple(range(4, 34, 2)), {"compact-segmenter": (1, 32), "compact-segmenter-half": (1, 16)}
    ),
)  # fmt: skip
_ANY = {"classification": ("cifar-resnet",), "segmentation": ("compact-segmenter",)}  # for teachers of any family


def variants_here(card: Card) -> Iterator[Variant]:
    """The architectures of this package that may learn from the network of `card`, those of its own family first."""
    own = [family for family in FAMILIES if family.size_of(card)]
    any_ = [family for family in FAMILIES if family.architecture in _ANY[card.task] and family not in own]
    for family in [*own, *(any_ if max(card.inputs.shape[1:]) <= SMALL or card.task == "segmentation" else [])]:
        yield from family.variants(card)
