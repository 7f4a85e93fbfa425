"""The layers of ONNX in the operators of a program: convolutions, products, norms and pools."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from datafree.networks.programs.onnx_builder import Builder, NotServed, Operand
from datafree.networks.programs.onnx_call import Call


def _padded(b: Builder, call: Call, x: Operand, kernel: list[int], value: float) -> tuple[Operand, list[int]]:
    """`x` with the padding that the operator itself has not, as one that differs on both sides, and the rest of it."""
    rank, pads = len(kernel), call["pads"] or [0] * 2 * len(kernel)
    auto = (call["auto_pad"] or b"NOTSET").decode()
    if auto.startswith("SAME"):
        steps, gaps = call["strides"] or [1] * rank, call["dilations"] or [1] * rank
        whole = zip(b.sizes(x)[2:], kernel, steps, gaps, strict=True)
        total = [max(0, (math.ceil(n / s) - 1) * s + (k - 1) * g + 1 - n) for n, k, s, g in whole]
        less = [each // 2 for each in total]
        more = [each - half for each, half in zip(total, less, strict=True)]
        pads = less + more if auto == "SAME_UPPER" else more + less
    if pads[:rank] == pads[rank:]:
        return x, pads[:rank]
    both = [side for i in reversed(range(rank)) for side in (pads[i], pads[rank + i])]
    return b.emit("constant_pad_nd.default", x, both, value), [0] * rank


def convolution(b: Builder, call: Call) -> Any:
    """`Conv`."""
    x, weight, bias = call.inputs[0], call.inputs[1], call.input(2)
    assert x is not None
    assert weight is not None
    kernel = list(b.sizes(weight)[2:])
    weight, bias = b.named(call.names, weight=weight, bias=bias)
    x, pads = _padded(b, call, x, kernel, 0.0)
    rank = len(kernel)
    how = (call["strides"] or [1] * rank, pads, call["dilations"] or [1] * rank, call["group"] or 1)
    return b.emit(f"conv{rank}d.default", x, weight, bias, *how)


def transposed_convolution(b: Builder, call: Call) -> Any:
    """`ConvTranspose`."""
    x, weight, bias = call.inputs[0], call.inputs[1], call.input(2)
    assert x is not None
    assert weight is not None
    rank = len(b.sizes(weight)) - 2
    pads = call["pads"] or [0] * 2 * rank
    if call["output_shape"] or call["auto_pad"] or pads[:rank] != pads[rank:] or rank != 2:
        raise NotServed("it uses ConvTranspose with other padding than torch has")
    how = (call["strides"] or [1] * rank, pads[:rank], call["output_padding"] or [0] * rank, call["group"] or 1)
    return b.emit("conv_transpose2d.input", x, weight, bias, *how, call["dilations"] or [1] * rank)


def batch_norm(b: Builder, call: Call) -> Any:
    """`BatchNormalization`, in eval mode."""
    x, weight, bias, mean, variance = call.inputs[:5]
    layer = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
    weight, bias, mean, variance = b.named(call.names, **layer)
    epsilon = call["epsilon"] or 1e-5
    return b.emit("batch_norm.default", x, weight, bias, mean, variance, False, 0.1, epsilon, False)


def gemm(b: Builder, call: Call) -> Any:
    """`Gemm`, without factors."""
    x, weight, bias = call.inputs[0], call.inputs[1], call.input(2)
    if call["transA"] or call["alpha"] not in (None, 1.0) or call["beta"] not in (None, 1.0):
        raise NotServed("it uses Gemm with a factor")
    weight = weight if call["transB"] else b.emit("t.default", weight)
    return _linear(b, call.names, x, weight, bias)


def _linear(b: Builder, names: tuple[str, ...], x: Any, weight: Any, bias: Any = None) -> Any:
    if bias is not None and b.sizes(bias) != b.sizes(weight)[:1]:
        return b.emit("add.Tensor", b.emit("linear.default", x, weight), bias)
    weight, bias = b.named(names, weight=weight, bias=bias)
    return b.emit("linear.default", x, weight, bias)


def product(b: Builder, call: Call) -> Any:
    """`MatMul`, by a constant matrix as a linear layer."""
    x, weight = call.inputs
    if isinstance(weight, Tensor) and weight.dim() == 2 and not isinstance(x, Tensor):
        return _linear(b, call.names, x, weight.t())
    return b.emit("matmul.default", x, weight)


def pool_by(operator: str, value: float) -> Callable[[Builder, Call], Any]:
    """`MaxPool` or `AveragePool`, by an operator; `value` pads."""

    def pool(b: Builder, call: Call) -> Any:
        kernel, x = call["kernel_shape"], call.inputs[0]
        assert x is not None
        rank = len(kernel)
        gaps = call["dilations"] or [1] * rank
        if rank != 2 or call.outputs > 1 or (operator == "avg_pool2d" and gaps != [1] * rank):
            raise NotServed(f"it uses {call.operator} of another form than torch has")
        before = x
        x, pads = _padded(b, call, x, kernel, value)
        if x is not before and operator == "avg_pool2d" and not call["count_include_pad"]:
            raise NotServed("it pads averages on one side only")
        how: list[Any] = [kernel, call["strides"] or [1] * rank, pads]
        ceil = bool(call["ceil_mode"])
        how += [gaps, ceil] if operator == "max_pool2d" else [ceil, bool(call["count_include_pad"])]
        return b.emit(f"{operator}.default", x, *how)

    return pool


def global_pool_by(operator: str) -> Callable[[Builder, Call], Any]:
    """`GlobalAveragePool` or `GlobalMaxPool`."""

    def pool(b: Builder, call: Call) -> Any:
        x = call.inputs[0]
        assert x is not None
        if len(b.sizes(x)) == 4 and operator == "mean":
            return b.emit("adaptive_avg_pool2d.default", x, [1, 1])
        axes = list(range(2, len(b.sizes(x))))
        return b.emit("mean.dim" if operator == "mean" else "amax.default", x, axes, True)

    return pool


def layer_norm(b: Builder, call: Call) -> Any:
    """`LayerNormalization`."""
    x, weight, bias = call.inputs[0], call.inputs[1], call.input(2)
    assert x is not None
    weight, bias = b.named(call.names, weight=weight, bias=bias)
    axis = -1 if call["axis"] is None else call["axis"]
    return b.emit("layer_norm.default", x, list(b.sizes(x)[axis:]), weight, bias, call["epsilon"] or 1e-5, False)


def group_norm(b: Builder, call: Call) -> Any:
    """`GroupNormalization`."""
    x, weight, bias = call.inputs
    assert x is not None
    assert weight is not None
    if b.sizes(weight) != b.sizes(x)[1:2]:
        raise NotServed("it uses GroupNormalization with a weight a group")
    weight, bias = b.named(call.names, weight=weight, bias=bias)
    return b.emit("group_norm.default", x, call["num_groups"], weight, bias, call["epsilon"] or 1e-5, False)
