"""Batch norms folded into the convolutions before them, which makes a frozen network faster."""

import copy
from collections import Counter

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from datafree.networks.outputs import logits_of

TOLERANCE = 1e-3  # share of the largest output: rounding is far smaller, an error in the folding far larger


def fold_batch_norms(network: nn.Module, x: Tensor) -> nn.Module:
    """A copy of `network`, in eval mode, with its foldable batch norms folded; `network` itself if there is none.

    torch folds a pair; which pairs may be folded is found here, since torch has that only for whole networks and in place.
    Layers keep their names, and a folded norm becomes an identity. `network` itself is also returned if its forward pass
    cannot be traced, or if the copy's logits for `x` [B, C, H, W] differ from the network's by more than rounding.
    """
    pairs = _foldable(network)
    if not pairs:
        return network
    faster = copy.deepcopy(network)
    for convolution, norm in pairs:
        before, after = faster.get_submodule(convolution), faster.get_submodule(norm)
        assert isinstance(before, nn.Conv2d)
        assert isinstance(after, nn.BatchNorm2d)
        faster.set_submodule(convolution, fuse_conv_bn_eval(before, after))
        faster.set_submodule(norm, nn.Identity())
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):  # in bf16 the two would differ by rounding
        expected = logits_of(network(x))
        try:
            found = logits_of(faster(x))
        except AttributeError:  # its forward reads a weight of a norm, which an identity lacks
            return network
    assert isinstance(expected, Tensor)
    assert isinstance(found, Tensor)
    same = torch.allclose(found, expected, rtol=0, atol=TOLERANCE * expected.abs().max().item())
    return faster if same else network


def _foldable(network: nn.Module) -> list[tuple[str, str]]:
    """Names of each convolution and its only reader, a batch norm, if both are called once and have no hooks."""
    try:
        nodes = fx.symbolic_trace(network).graph.nodes
    except Exception:  # noqa: BLE001 - tracing runs the network's own code, which may raise anything
        return []
    layers = dict(network.named_modules())
    called = Counter(id(layers[node.target]) for node in nodes if node.op == "call_module")

    def is_single_call(node: object, kind: type[nn.Module]) -> bool:
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return False
        layer = layers[str(node.target)]
        hooked = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks
        return type(layer) is kind and called[id(layer)] == 1 and not hooked

    return [
        (str(node.args[0].target), str(node.target))
        for node in nodes
        if is_single_call(node, nn.BatchNorm2d)
        and is_single_call(node.args[0], nn.Conv2d)
        and len(node.args[0].users) == 1
        and layers[node.target].track_running_stats
    ]
