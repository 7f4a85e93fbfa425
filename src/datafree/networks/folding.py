"""A frozen network made faster: batch norms that only follow a convolution become part of it."""

import copy
from collections import Counter

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from datafree.networks.outputs import logits_of

TOLERANCE = 1e-3  # of the largest output: rounding stays far below, a mistake far above


def folded(network: nn.Module, x: Tensor) -> nn.Module:
    """A copy of `network`, in eval mode, without the batch norms that could be folded; the network itself where none could.

    Layers keep their names, and a folded norm becomes an identity. Only a network whose forward pass can be traced is
    folded, and only if it still answers to `x` [B, C, H, W] as before, so the worst that can happen is no gain.
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
            seen = logits_of(faster(x))
        except AttributeError:  # its forward reads a weight of the norm's own
            return network
    assert isinstance(expected, Tensor)
    assert isinstance(seen, Tensor)
    same = torch.allclose(seen, expected, rtol=0, atol=TOLERANCE * expected.abs().max().item())
    return faster if same else network


def _foldable(network: nn.Module) -> list[tuple[str, str]]:
    """Names of each convolution and the batch norm that alone reads it, both called once and watched by nobody."""
    try:
        nodes = fx.symbolic_trace(network).graph.nodes
    except Exception:  # noqa: BLE001 - a forward may do anything, and what cannot be traced is left as it is
        return []
    layers = dict(network.named_modules())
    called = Counter(id(layers[node.target]) for node in nodes if node.op == "call_module")

    def plain(node: object, kind: type[nn.Module]) -> bool:
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return False
        layer = layers[str(node.target)]
        watched = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks
        return type(layer) is kind and called[id(layer)] == 1 and not watched

    return [
        (str(node.args[0].target), str(node.target))
        for node in nodes
        if plain(node, nn.BatchNorm2d)
        and plain(node.args[0], nn.Conv2d)
        and len(node.args[0].users) == 1
        and layers[node.target].track_running_stats
    ]
