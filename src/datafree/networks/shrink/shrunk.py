"""Networks with fewer channels in some layers than their architecture gives them, as structured pruning leaves them."""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datafree.networks.building.limits import SPARE
from datafree.networks.saved.weights import parameters

Channels = Annotated[dict[str, tuple[Annotated[int, Field(ge=1)], ...]], Field(max_length=4096)]
"""Of each layer smaller than its architecture's: channels in and out of a convolution or linear layer, those of a norm."""

_MOST_PRUNED = 8  # times the weights of its file that a network may have had before it was pruned, beyond `SPARE`


def channels_of(layer: nn.Module) -> tuple[int, ...] | None:
    """Channels in and out of a convolution or linear layer, or those of a norm; None for other layers."""
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels, layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, _BatchNorm):
        return (layer.num_features,)
    if isinstance(layer, nn.GroupNorm):
        return (layer.num_channels,)
    if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == 1:
        return tuple(layer.normalized_shape)
    return None


def smaller_layers(network: nn.Module, original: nn.Module) -> dict[str, tuple[int, ...]]:
    """The channels of each layer of `network` that differ from those of the same layer of `original`."""
    found = {}
    for name, layer in network.named_modules():
        sizes = channels_of(layer)
        if sizes and sizes != channels_of(original.get_submodule(name)):
            found[name] = sizes
    return found


def shrink_layers(network: nn.Module, channels: Mapping[str, tuple[int, ...]]) -> nn.Module:
    """`network`, in place, with so many channels in these layers; the first ones of each stay.

    Raises `ValueError` for a layer that it does not have or that has no channels, and for more channels than it has.
    """
    layers = dict(network.named_modules())
    for name, sizes in channels.items():
        before = channels_of(layers[name]) if name in layers else None
        if before is None or len(before) != len(sizes) or any(map(int.__gt__, sizes, before)):
            raise ValueError(
                f"Layer {name!r} cannot have {list(sizes)} channels, since the architecture gives it "
                f"{list(before) if before else 'none'}; make the file again."
            )
        _shrink(layers[name], sizes, name)
    return network


def refuse_swollen(network: nn.Module, most: int) -> None:
    """Raise `ValueError` if `network`, from which channels will be taken, is far larger than a file of `most` weights."""
    if parameters(network) > _MOST_PRUNED * most + SPARE:
        raise ValueError(
            f"The network was pruned from one of {parameters(network):,} weights, far more than are left; make the file again."
        )


def _shrink(layer: nn.Module, sizes: tuple[int, ...], name: str) -> None:
    last = sizes[-1]
    if isinstance(layer, nn.Conv2d | nn.Linear):
        into = sizes[0]
        if isinstance(layer, nn.Conv2d):
            layer.in_channels, layer.out_channels = sizes
            if layer.groups > 1:
                if layer.weight.shape[1] != 1 or into != last:
                    raise ValueError(
                        f"Layer {name!r} is a grouped convolution, which cannot have fewer channels; make the file again."
                    )
                layer.groups, into = into, 1
        else:
            layer.in_features, layer.out_features = sizes
        layer.weight = _first(layer.weight, (last, into))
    else:
        if isinstance(layer, _BatchNorm):
            layer.num_features = last
            for key in ("running_mean", "running_var"):
                if (value := getattr(layer, key)) is not None:
                    setattr(layer, key, value[:last].clone())
        elif isinstance(layer, nn.GroupNorm):
            layer.num_channels = last
        else:
            layer.normalized_shape = (last,)  # type: ignore[assignment]
        if isinstance(layer.weight, Tensor):
            layer.weight = _first(layer.weight, (last,))
    if isinstance(layer.bias, Tensor):
        layer.bias = _first(layer.bias, (last,))


def _first(weight: Tensor, sizes: tuple[int, ...]) -> nn.Parameter:
    with torch.no_grad():
        return nn.Parameter(weight[tuple(slice(size) for size in sizes)].clone(), weight.requires_grad)
