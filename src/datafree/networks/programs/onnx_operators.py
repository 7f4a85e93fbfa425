"""What each operator of ONNX is in the operators of a program."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from datafree.networks.programs.onnx_builder import Builder, NotServed
from datafree.networks.programs.onnx_call import KINDS, Call, axes_of
from datafree.networks.programs.onnx_layers import (
    batch_norm,
    convolution,
    gemm,
    global_pool_by,
    group_norm,
    layer_norm,
    pool_by,
    product,
    transposed_convolution,
)
from datafree.networks.programs.onnx_shapes import (
    constant,
    expanded,
    filled,
    flattened_from,
    gathered,
    joined,
    padding,
    parts_of,
    range_of,
    reshaped,
    resized,
    shape_of,
    shuffle_by,
    slices,
    squeezed,
    transposed,
    unsqueezed,
)


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


def _reduced(b: Builder, call: Call, operator: str) -> Any:
    axes, x = axes_of(b, call), call.inputs[0]
    if not axes and call["noop_with_empty_axes"]:
        return x
    assert x is not None
    axes, keep = axes or list(range(len(b.sizes(x)))), call["keepdims"] in (None, 1)
    return b.emit(operator, x, 2, axes, keep) if operator.startswith("linalg") else b.emit(operator, x, axes, keep)


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


_FORMS: dict[str, Callable[[Builder, Call], Any]] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": lambda b, c: b.emit(
        "instance_norm.default", *c.inputs[:3], None, None, True, 0.1, c["epsilon"] or 1e-5, False
    ),
    "Gemm": gemm,
    "MatMul": product,
    "Einsum": lambda b, c: b.emit("einsum.default", c["equation"].decode(), c.inputs),
    "MaxPool": pool_by("max_pool2d", -math.inf),
    "AveragePool": pool_by("avg_pool2d", 0.0),
    "GlobalAveragePool": global_pool_by("mean"),
    "GlobalMaxPool": global_pool_by("max"),
    "Reshape": reshaped,
    "Flatten": flattened_from,
    "Transpose": transposed,
    "Squeeze": squeezed,
    "Unsqueeze": unsqueezed,
    "Concat": joined,
    "Split": parts_of,
    "Slice": slices,
    "Gather": gathered,
    "Expand": expanded,
    "Tile": lambda b, c: b.emit("repeat.default", c.inputs[0], b.numbers(c.inputs[1])),
    "Pad": padding,
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
    "Constant": constant,
    "ConstantOfShape": filled,
    "Shape": shape_of,
    "Range": range_of,
    "Resize": resized,
    "Upsample": resized,
    "DepthToSpace": shuffle_by("pixel_shuffle"),
    "SpaceToDepth": shuffle_by("pixel_unshuffle"),
    "Identity": lambda b, c: c.inputs[0],
    "Dropout": lambda b, c: c.inputs[0],
}
