"""Structured pruning of the teacher: channels of small weights are removed, and the student begins with the rest."""

import copy
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from datafree.core.modes import evaluating
from datafree.core.settings import first_line
from datafree.networks.building.limits import FOREIGN
from datafree.networks.inside.cost import multiply_adds
from datafree.networks.network import Card, Network
from datafree.networks.outputs import flattened, noise_for, probe
from datafree.networks.saved.weights import parameters, shapes_fingerprint
from datafree.networks.shrink.request import Request
from datafree.networks.shrink.resized import inside
from datafree.networks.shrink.shrunk import channels_of, shrink_layers, smaller_layers

SHARES = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.96)  # of the channels of each layer that are removed
_KEPT = ("architecture", "options", "classes", "task", "inputs", "resized_to")  # of the teacher's card
HALVINGS = 4  # of the interval between two of them: the share is found to about 1 %

Cost = Callable[[nn.Module], float]


def prune(teacher: Network, request: Request) -> Network:
    """The teacher, a copy, without the share of each layer's channels by which it meets `request`, the least that does.

    The channels with the smallest weights go (`torch-pruning`, L2 norm over all layers that hold a channel, arXiv 2301.12900);
    the outputs stay. The card holds the number of channels of each layer that lost some.

    Raises `ValueError` if torch-pruning is not installed, cannot read the network, or cannot meet the request.
    """
    cost = _cost(request, teacher)
    limit = request.limit(cost(teacher.module))
    low, best = 0.0, teacher.module
    for share in SHARES:  # from below, since a layer of few channels keeps all where a large share leaves it none
        best = _without(teacher, share)
        if cost(best) <= limit:
            break
        low = share
    else:
        raise ValueError(
            f"Pruned as far as it can be, {teacher.card.architecture} has {request.amount(cost(best))}, more than "
            f"{request.amount(limit)}; ask for more, or for a student of its family, --student "
            f"{request.text.removesuffix('-pruned')}."
        )
    high = share
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = _without(teacher, middle)
        low, high, best = (low, middle, found) if cost(found) <= limit else (middle, high, best)
    return Network(best.eval(), _card(teacher, best))


def _cost(request: Request, teacher: Network) -> Cost:
    if request.kind == "weights":
        return parameters
    if request.kind == "compute":
        return lambda module: multiply_adds(module, teacher.card.inputs)
    if request.kind == "file":
        return lambda module: Network(module, _card(teacher, module)).file_bytes
    raise ValueError(f"A pruned student is asked for by weights, compute or size, not by {request.text!r}; write 4x-pruned.")


def _card(teacher: Network, pruned: nn.Module) -> Card:
    """The card of the pruned network. Raises `ValueError` if something else than the channels of its layers has changed."""
    channels = smaller_layers(inside(pruned), inside(teacher.module))
    again = shrink_layers(copy.deepcopy(inside(teacher.module)), channels)
    if shapes_fingerprint(again) != shapes_fingerprint(inside(pruned)):
        raise ValueError(
            f"{teacher.card.architecture} cannot be pruned, since it holds channels in more than convolutions, linear layers "
            "and norms; ask for a student of its family, --student 4x."
        )
    kept = {name: getattr(teacher.card, name) for name in _KEPT}  # not what the teacher was judged by, nor its history
    return Card(**kept, channels=teacher.card.channels | channels)


def _without(teacher: Network, share: float) -> nn.Module:
    """A copy of the teacher without `share` of the channels of each layer whose channels may go."""
    pruning, name = _torch_pruning(), teacher.card.architecture
    network, silent = (copy.deepcopy(teacher.module).eval() for _ in range(2))
    x = noise_for(network, teacher.card.inputs)[:1]
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            importance = pruning.importance.GroupMagnitudeImportance(p=2)
            kept = [_last_layer(network, x)]
            kept += _uneven(pruning.DependencyGraph().build_dependency(network, example_inputs=x), kept)
            most = {layer: min(share, 1 - 1.01 / each[-1]) for layer in network.modules() if (each := _channels(layer))}
            pruner = pruning.pruner.BasePruner(
                network, x, importance=importance, pruning_ratio=share, pruning_ratio_dict=most, ignored_layers=kept
            )
            names = {layer: name for name, layer in network.named_modules()}
            for group in pruner.step(interactive=True):
                for dependency, channels in group:
                    layer = names.get(dependency.target.module)
                    if layer is not None and pruner.DG.is_out_channel_pruning_fn(dependency.handler):
                        _silence(silent.get_submodule(layer), channels)
                group.prune()
        network.zero_grad(set_to_none=True)
        teacher.card.check(probe("pruned network", network, teacher.card.inputs))
        _refuse_others_answers(network, silent, x)
    except FOREIGN as error:  # torch-pruning meets networks of any kind
        raise ValueError(
            f"{name} cannot be pruned ({first_line(error) if isinstance(error, Exception) else error!r}); ask for a student of "
            "its family, --student 4x."
        ) from error
    return network


def _channels(layer: nn.Module) -> tuple[int, ...] | None:
    """Channels in and out of a layer that may lose some; None for other layers, and for one that has a single one."""
    sizes = channels_of(layer) if isinstance(layer, nn.Conv2d | nn.Linear) else None
    return sizes if sizes and sizes[-1] > 1 else None


def _uneven(graph: Any, ignored: list[nn.Module]) -> list[nn.Module]:
    """Layers whose channels are those of layers with another number of channels, as behind a shortcut that adds some: which
    channel is which is not known there.
    """
    found: list[nn.Module] = []
    for group in graph.get_all_groups(ignored_layers=ignored):
        targets = [each.target.module for each, _ in group if graph.is_out_channel_pruning_fn(each.handler)]
        layers = [layer for layer in targets if isinstance(layer, nn.Conv2d | nn.Linear)]
        if len({layer.weight.shape[0] for layer in layers}) > 1:
            found += layers
    return found


def _silence(layer: nn.Module, channels: list[int]) -> None:
    """Set what comes out of these channels of `layer` to zero."""
    with torch.no_grad():
        for weight in (getattr(layer, "weight", None), getattr(layer, "bias", None)):
            if isinstance(weight, nn.Parameter):
                weight[channels] = 0.0


def _refuse_others_answers(pruned: nn.Module, silent: nn.Module, x: Tensor) -> None:
    """Raise `ValueError` unless `pruned` answers as the whole network does with the same channels silent.

    Norms over several channels are of other numbers without some, so networks with these are not compared.
    """
    if any(isinstance(layer, nn.GroupNorm | nn.LayerNorm) for layer in silent.modules()):
        return
    with torch.no_grad():
        found, expected = flattened(pruned(x)), flattened(silent(x))
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().amax().item()):
        raise ValueError("without some channels it gives other answers than with these channels silent")


def _last_layer(network: nn.Module, x: Tensor) -> nn.Module:
    """The convolution or linear layer that runs last, whose channels are the classes."""
    made: list[nn.Module] = []
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(lambda layer, inputs, output: made.append(layer)) for layer in layers]
    try:
        with torch.no_grad(), evaluating(network):
            network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return made[-1]


def _torch_pruning() -> Any:
    try:
        return importlib.import_module("torch_pruning")
    except ImportError as error:
        raise ValueError("torch-pruning is not installed; pip install 'datafree[prune]'.") from error
