"""What each operator of ONNX is in the operators of a program."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datafree.networks.programs.graph import Value
from datafree.networks.programs.onnx_builder import Builder, NotServed, Operand, counted, full

# As ONNX numbers the types of numbers.
KINDS = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip
_SCALE, _ENDS = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}, 2**31


@dataclass(frozen=True)
class Call:
    """One node of an ONNX graph: names that its layer may have, its attributes, its inputs and how many outputs it has."""

    names: tuple[str, ...]
    operator: str
    attributes: dict[str, Any]
    inputs: list[Operand | None]
    outputs: int
    opset: int

    def __getitem__(self, name: str) -> Any:
        return self.attributes.get(name)

    def input(self, place: int) -> Any:
        """The input at `place`, None if it is left out."""
        return self.inputs[place] if len(self.inputs) > place else None


def converted(b: Builder, call: Call) -> list[Any]:
    """The outputs of a node. Raises `NotServed` for an operator, or a form of one, that is not served."""
    if call.operator in _PLAIN:
        return [b.emit(_PLAIN[call.operator], *[each for each in call.inputs if each is not None])]
    if call.operator in _REDUCED:
        return [_reduced(b, call, _REDUCED[call.operator])]
    if call.operator not in _FORMS:
        raise NotServed(f"it uses the operator {call.operator[:80]!r}")
    made = _FORMS[call.operator](b, call)
    return made if isinstance(made, list) else [made]


_PLAIN = {
    "Relu": "relu.default", "Sigmoid": "sigmoid.default", "Tanh": "tanh.default", "HardSwish": "hardswish.default",
    "Mish": "mish.default", "Softsign": "softsign.default", "Softplus": "softplus.default", "Erf": "erf.default",
    "Exp": "exp.default", "Log": "log.default", "Sqrt": "sqrt.default", "Reciprocal": "reciprocal.default",
    "Abs": "abs.default",
    "Neg": "neg.default", "Floor": "floor.default", "Ceil": "ceil.default", "Round": "round.default", "Sign": "sign.default",
    "Sin": "sin.default", "Cos": "cos.default", "Add": "add.Tensor", "Sub": "sub.Tensor", "Mul": "mul.Tensor",
    "Where": "where.self", "Equal": "eq.Tensor", "Less": "lt.Tensor", "Greater": "gt.Tensor",
    "LessOrEqual": "le.Tensor", "GreaterOrEqual": "ge.Tensor", "Not": "logical_not.default", "And": "logical_and.default",
    "Or": "logical_or.default", "PRelu": "prelu.default",
}  # fmt: skip
_REDUCED = {
    "ReduceMean": "mean.dim", "ReduceSum": "sum.dim_IntList", "ReduceMax": "amax.default", "ReduceMin": "amin.default",
    "ReduceL2": "linalg_vector_norm.default",
}  # fmt: skip


def _axes(b: Builder, call: Call, place: int = 1) -> list[int]:
    return [int(each) for each in (call["axes"] or b.numbers(call.input(place)))]


def _reduced(b: Builder, call: Call, operator: str) -> Any:
    axes, x = _axes(b, call), call.inputs[0]
    if not axes and call["noop_with_empty_axes"]:
        return x
    assert x is not None
    axes, keep = axes or list(range(len(b.sizes(x)))), call["keepdims"] in (None, 1)
    return b.emit(operator, x, 2, axes, keep) if operator.startswith("linalg") else b.emit(operator, x, axes, keep)


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


def _conv(b: Builder, call: Call) -> Any:
    x, weight, bias = call.inputs[0], call.inputs[1], call.input(2)
    assert x is not None
    assert weight is not None
    kernel = list(b.sizes(weight)[2:])
    weight, bias = b.named(call.names, weight=weight, bias=bias)
    x, pads = _padded(b, call, x, kernel, 0.0)
    rank = len(kernel)
    how = (call["strides"] or [1] * rank, pads, call["dilations"] or [1] * rank, call["group"] or 1)
    return b.emit(f"conv{rank}d.default", x, weight, bias, *how)


def _conv_transpose(b: Builder, call: Call) -> Any:
    x, weight, bias = call.inputs[0], call.inputs[1], call.input(2)
    assert x is not None
    assert weight is not None
    rank = len(b.sizes(weight)) - 2
    pads = call["pads"] or [0] * 2 * rank
    if call["output_shape"] or call["auto_pad"] or pads[:rank] != pads[rank:] or rank != 2:
        raise NotServed("it uses ConvTranspose with other padding than torch has")
    how = (call["strides"] or [1] * rank, pads[:rank], call["output_padding"] or [0] * rank, call["group"] or 1)
    return b.emit("conv_transpose2d.input", x, weight, bias, *how, call["dilations"] or [1] * rank)


def _batch_norm(b: Builder, call: Call) -> Any:
    x, weight, bias, mean, variance = call.inputs[:5]
    layer = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
    weight, bias, mean, variance = b.named(call.names, **layer)
    epsilon = call["epsilon"] or 1e-5
    return b.emit("batch_norm.default", x, weight, bias, mean, variance, False, 0.1, epsilon, False)


def _gemm(b: Builder, call: Call) -> Any:
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


def _matmul(b: Builder, call: Call) -> Any:
    x, weight = call.inputs
    if isinstance(weight, Tensor) and weight.dim() == 2 and not isinstance(x, Tensor):
        return _linear(b, call.names, x, weight.t())
    return b.emit("matmul.default", x, weight)


def _pool(operator: str, value: float) -> Callable[[Builder, Call], Any]:
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


def _global_pool(operator: str) -> Callable[[Builder, Call], Any]:
    def pool(b: Builder, call: Call) -> Any:
        x = call.inputs[0]
        assert x is not None
        if len(b.sizes(x)) == 4 and operator == "mean":
            return b.emit("adaptive_avg_pool2d.default", x, [1, 1])
        axes = list(range(2, len(b.sizes(x))))
        return b.emit("mean.dim" if operator == "mean" else "amax.default", x, axes, True)

    return pool


def _reshape(b: Builder, call: Call) -> Any:
    x, wanted = call.inputs[0], b.numbers(call.inputs[1])
    assert x is not None
    sizes = b.sizes(x)
    if not call["allowzero"]:
        wanted = [sizes[i] if size == 0 else size for i, size in enumerate(wanted)]
    return b.emit("reshape.default", x, wanted)


def _flatten(b: Builder, call: Call) -> Any:
    x, axis = call.inputs[0], 1 if call["axis"] is None else call["axis"]
    assert x is not None
    return (
        b.emit("flatten.using_ints", x, 1, -1)
        if axis == 1
        else b.emit("reshape.default", x, [math.prod(b.sizes(x)[:axis]), -1])
    )


def _transpose(b: Builder, call: Call) -> Any:
    x = call.inputs[0]
    assert x is not None
    return b.emit("permute.default", x, call["perm"] or list(reversed(range(len(b.sizes(x))))))


def _squeeze(b: Builder, call: Call) -> Any:
    x = call.inputs[0]
    assert x is not None
    axes = _axes(b, call) or [i for i, size in enumerate(b.sizes(x)) if size == 1]
    return b.emit("squeeze.dims", x, axes)


def _unsqueeze(b: Builder, call: Call) -> Any:
    x = call.inputs[0]
    assert x is not None
    axes = _axes(b, call)
    rank = len(b.sizes(x)) + len(axes)
    for axis in sorted(each % rank for each in axes):
        x = b.emit("unsqueeze.default", x, axis)
    return x


def _slice(b: Builder, call: Call) -> Any:
    x = call.inputs[0]
    assert x is not None
    starts, ends = ([int(n) for n in (call[key] or b.numbers(call.input(i)))] for i, key in ((1, "starts"), (2, "ends")))
    axes = _axes(b, call, 3) or list(range(len(starts)))
    steps = [int(n) for n in b.numbers(call.input(4))] or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step > 0:
            x = b.emit("slice.Tensor", x, axis, start, min(end, _ENDS), step)
        else:
            places = range(*slice(start, end, step).indices(b.sizes(x)[axis]))
            x = b.emit("index_select.default", x, axis, torch.tensor(list(places), dtype=torch.int64))
    return x


def _gather(b: Builder, call: Call) -> Any:
    x, places, axis = call.inputs[0], call.inputs[1], call["axis"] or 0
    assert x is not None
    assert places is not None
    if isinstance(places, Tensor) and not places.dim():
        return b.emit("select.int", x, axis, int(places))
    if isinstance(places, Tensor):
        places = torch.where(places < 0, places + b.sizes(x)[axis], places)
    sizes, found = b.sizes(x), b.sizes(places)
    picked = b.emit("index_select.default", x, axis, b.emit("reshape.default", places, [-1]) if len(found) != 1 else places)
    axis %= len(sizes)
    return b.emit("reshape.default", picked, [*sizes[:axis], *found, *sizes[axis + 1 :]]) if len(found) != 1 else picked


def _split(b: Builder, call: Call) -> Any:
    x, axis = call.inputs[0], call["axis"] or 0
    assert x is not None
    sizes, whole = call["split"] or b.numbers(call.input(1)), b.sizes(x)[axis]
    if not sizes:
        part = math.ceil(whole / call.outputs)
        sizes = [min(part, whole - part * i) for i in range(call.outputs)]
    return b.emit("split_with_sizes.default", x, sizes, axis, makes=len(sizes))


def _expand(b: Builder, call: Call) -> Any:
    x = call.inputs[0]
    assert x is not None
    sizes = torch.broadcast_shapes(b.sizes(x), tuple(b.numbers(call.inputs[1])))
    if isinstance(x, Tensor) and b.for_images(sizes) and b.sizes(x)[: 1 - len(sizes) or None] in ((), (1,)):
        sizes = (1, *sizes[1:])
    return b.emit("expand.default", x, list(sizes))


def _concat(b: Builder, call: Call) -> Any:
    parts, axis = call.inputs, call["axis"]
    if any(isinstance(part, Value) and b.for_images(b.sizes(part)) for part in parts) and axis:  # a class token for all images
        one = [isinstance(part, Tensor) and b.sizes(part)[:1] == (1,) for part in parts]
        spread = zip(parts, one, strict=True)
        parts = [b.spread(part) if alone and isinstance(part, Tensor) else part for part, alone in spread]
    return b.emit("cat.default", parts, axis)


def _pad(b: Builder, call: Call) -> Any:
    x, mode = call.inputs[0], (call["mode"] or b"constant").decode()
    assert x is not None
    rank = len(b.sizes(x))
    pads = [int(n) for n in (call["pads"] or b.numbers(call.input(1)))]
    axes = [int(n) % rank for n in b.numbers(call.input(3))] or list(range(rank))
    begin, end = (dict(zip(axes, pads[part:][: len(axes)], strict=True)) for part in (0, len(axes)))
    both = [side for axis in reversed(range(rank)) for side in (begin.get(axis, 0), end.get(axis, 0))]
    while both and both[-2:] == [0, 0]:
        both = both[:-2]
    if not both:
        return x
    if mode == "constant":
        value = call["value"] or (b.numbers(call.input(2)) or [0.0])[0]
        return b.emit("constant_pad_nd.default", x, both, float(value))
    if mode in ("reflect", "edge") and len(both) <= 4:
        return b.emit("reflection_pad2d.default" if mode == "reflect" else "replication_pad2d.default", x, (both + [0] * 4)[:4])
    raise NotServed(f"it pads in the mode {mode[:40]!r}")


def _clip(b: Builder, call: Call) -> Any:
    low, high = (
        call[key] if call[key] is not None else (b.numbers(call.input(i)) or [None])[0] for i, key in ((1, "min"), (2, "max"))
    )
    return call.inputs[0] if low is None and high is None else b.emit("clamp.default", call.inputs[0], low, high)


def _softmax(operator: str) -> Callable[[Builder, Call], Any]:
    return lambda b, call: b.emit(
        operator, call.inputs[0], (-1 if call.opset >= 13 else 1) if call["axis"] is None else call["axis"]
    )


def _hard_sigmoid(b: Builder, call: Call) -> Any:
    slope = 0.2 if call["alpha"] is None else call["alpha"]
    middle = 0.5 if call["beta"] is None else call["beta"]
    if abs(slope - 1 / 6) < 1e-6 and middle == 0.5:
        return b.emit("hardsigmoid.default", call.inputs[0])
    return b.emit("clamp.default", b.emit("add.Scalar", b.emit("mul.Scalar", call.inputs[0], slope), middle), 0.0, 1.0)


def _layer_norm(b: Builder, call: Call) -> Any:
    x, weight, bias = call.inputs[0], call.inputs[1], call.input(2)
    assert x is not None
    weight, bias = b.named(call.names, weight=weight, bias=bias)
    axis = -1 if call["axis"] is None else call["axis"]
    return b.emit("layer_norm.default", x, list(b.sizes(x)[axis:]), weight, bias, call["epsilon"] or 1e-5, False)


def _group_norm(b: Builder, call: Call) -> Any:
    x, weight, bias = call.inputs
    assert x is not None
    assert weight is not None
    if b.sizes(weight) != b.sizes(x)[1:2]:
        raise NotServed("it uses GroupNormalization with a weight a group")
    weight, bias = b.named(call.names, weight=weight, bias=bias)
    return b.emit("group_norm.default", x, call["num_groups"], weight, bias, call["epsilon"] or 1e-5, False)


def _divided(b: Builder, call: Call) -> Any:
    one, other = call.inputs
    assert one is not None
    assert other is not None
    if b.kind(one).is_floating_point or b.kind(other).is_floating_point:
        return b.emit("div.Tensor", one, other)
    return b.emit("div.Tensor_mode", one, other, rounding_mode="trunc")


def _power(b: Builder, call: Call) -> Any:
    x, exponent = call.inputs
    if isinstance(exponent, Tensor) and exponent.numel() == 1:
        return b.emit("pow.Tensor_Scalar", x, exponent.item())
    return b.emit("pow.Tensor_Tensor", x, exponent)


def _of_many(operator: str) -> Callable[[Builder, Call], Any]:
    def many(b: Builder, call: Call) -> Any:
        found, *others = call.inputs
        for other in others:
            found = b.emit(operator, found, other)
        return found

    return many


def _cast(b: Builder, call: Call) -> Any:
    if call["to"] not in KINDS:
        raise NotServed("it casts to a type that torch has not")
    return b.emit("to.dtype", call.inputs[0], KINDS[call["to"]])


def _constant(b: Builder, call: Call) -> Any:
    for key, kind in (
        ("value_float", torch.float32),
        ("value_floats", torch.float32),
        ("value_int", torch.int64),
        ("value_ints", torch.int64),
    ):
        if call[key] is not None:
            return torch.tensor(call[key], dtype=kind)
    if not isinstance(call["value"], Tensor):
        raise NotServed("it has a constant that is no tensor")
    return call["value"]


def _shape(b: Builder, call: Call) -> Any:
    x = call.inputs[0]
    assert x is not None
    return torch.tensor(b.sizes(x)[call["start"] or 0 : call["end"]], dtype=torch.int64)


def _constant_of_shape(b: Builder, call: Call) -> Any:
    value = call["value"] if isinstance(call["value"], Tensor) else torch.zeros(1)
    sizes = [int(n) for n in b.numbers(call.inputs[0])]
    return full([1, *sizes[1:]] if b.for_images(sizes) else sizes, value)


def _range(b: Builder, call: Call) -> Any:
    return counted(*(b.numbers(each)[0] for each in call.inputs))


def _resize(b: Builder, call: Call) -> Any:
    x = call.inputs[0]
    assert x is not None
    sizes, mode = b.sizes(x), (call["mode"] or b"nearest").decode()
    where = (call["coordinate_transformation_mode"] or b"half_pixel").decode()
    scales = b.numbers(call.input(1 if call.operator == "Upsample" else 2)) or call["scales"]
    wanted = b.numbers(call.input(3)) or [math.floor(n * s) for n, s in zip(sizes, scales or [], strict=False)]
    if mode not in _SCALE or len(sizes) != 4 or tuple(wanted[:2]) != sizes[:2] or call["antialias"]:
        raise NotServed("it resizes in a way that torch has not")
    target = [int(n) for n in wanted[2:]]
    if mode == "nearest":
        exact = where == "half_pixel" and call.operator != "Upsample"
        whole = all(n % m == 0 for n, m in zip(target, sizes[2:], strict=True))
        if not whole and where not in ("half_pixel", "asymmetric"):
            raise NotServed("it resizes in a way that torch has not")
        return b.emit("_upsample_nearest_exact2d.vec" if exact else "upsample_nearest2d.vec", x, target, None)
    if where not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise NotServed("it resizes in a way that torch has not")
    return b.emit(f"upsample_{_SCALE[mode]}2d.vec", x, target, where == "align_corners", None)


def _shuffled(operator: str) -> Callable[[Builder, Call], Any]:
    def shuffle(b: Builder, call: Call) -> Any:
        if operator == "pixel_shuffle" and (call["mode"] or b"DCR") != b"CRD":
            raise NotServed("it uses DepthToSpace in the order DCR")
        return b.emit(f"{operator}.default", call.inputs[0], call["blocksize"])

    return shuffle


_FORMS: dict[str, Callable[[Builder, Call], Any]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": lambda b, c: b.emit(
        "instance_norm.default", *c.inputs[:3], None, None, True, 0.1, c["epsilon"] or 1e-5, False
    ),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Einsum": lambda b, c: b.emit("einsum.default", c["equation"].decode(), c.inputs),
    "MaxPool": _pool("max_pool2d", -math.inf),
    "AveragePool": _pool("avg_pool2d", 0.0),
    "GlobalAveragePool": _global_pool("mean"),
    "GlobalMaxPool": _global_pool("max"),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Expand": _expand,
    "Tile": lambda b, c: b.emit("repeat.default", c.inputs[0], b.numbers(c.inputs[1])),
    "Pad": _pad,
    "Clip": _clip,
    "Softmax": _softmax("softmax.int"),
    "LogSoftmax": _softmax("log_softmax.int"),
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": lambda b, c: b.emit("leaky_relu.default", c.inputs[0], 0.01 if c["alpha"] is None else c["alpha"]),
    "Elu": lambda b, c: b.emit("elu.default", c.inputs[0], 1.0 if c["alpha"] is None else c["alpha"]),
    "Gelu": lambda b, c: b.emit("gelu.default", c.inputs[0], approximate=(c["approximate"] or b"none").decode()),
    "Div": _divided,
    "Pow": _power,
    "Mod": lambda b, c: b.emit("fmod.Tensor" if c["fmod"] else "remainder.Tensor", *c.inputs),
    "Min": _of_many("minimum.default"),
    "Max": _of_many("maximum.default"),
    "Sum": _of_many("add.Tensor"),
    "Cast": _cast,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Shape": _shape,
    "Range": _range,
    "Resize": _resize,
    "Upsample": _resize,
    "DepthToSpace": _shuffled("pixel_shuffle"),
    "SpaceToDepth": _shuffled("pixel_unshuffle"),
    "Identity": lambda b, c: c.inputs[0],
    "Dropout": lambda b, c: c.inputs[0],
}
