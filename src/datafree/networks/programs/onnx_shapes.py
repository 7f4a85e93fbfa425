"""What ONNX does with shapes, in the operators of a program: views, slices, joins, padding, resizing, constants."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from datafree.networks.programs.graph import Value
from datafree.networks.programs.onnx_builder import Builder, NotServed, counted, full
from datafree.networks.programs.onnx_call import Call, axes_of

_SCALE, _ENDS = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}, 2**31


def reshaped(b: Builder, call: Call) -> Any:
    """`Reshape`; a size of 0 is that of the input."""
    x, wanted = call.inputs[0], b.numbers(call.inputs[1])
    assert x is not None
    sizes = b.sizes(x)
    if not call["allowzero"]:
        wanted = [sizes[i] if size == 0 else size for i, size in enumerate(wanted)]
    return b.emit("reshape.default", x, wanted)


def flattened_from(b: Builder, call: Call) -> Any:
    """`Flatten`."""
    x, axis = call.inputs[0], 1 if call["axis"] is None else call["axis"]
    assert x is not None
    return (
        b.emit("flatten.using_ints", x, 1, -1)
        if axis == 1
        else b.emit("reshape.default", x, [math.prod(b.sizes(x)[:axis]), -1])
    )


def transposed(b: Builder, call: Call) -> Any:
    """`Transpose`."""
    x = call.inputs[0]
    assert x is not None
    return b.emit("permute.default", x, call["perm"] or list(reversed(range(len(b.sizes(x))))))


def squeezed(b: Builder, call: Call) -> Any:
    """`Squeeze`."""
    x = call.inputs[0]
    assert x is not None
    axes = axes_of(b, call) or [i for i, size in enumerate(b.sizes(x)) if size == 1]
    return b.emit("squeeze.dims", x, axes)


def unsqueezed(b: Builder, call: Call) -> Any:
    """`Unsqueeze`."""
    x = call.inputs[0]
    assert x is not None
    axes = axes_of(b, call)
    rank = len(b.sizes(x)) + len(axes)
    for axis in sorted(each % rank for each in axes):
        x = b.emit("unsqueeze.default", x, axis)
    return x


def slices(b: Builder, call: Call) -> Any:
    """`Slice`, one axis after the other."""
    x = call.inputs[0]
    assert x is not None
    starts, ends = ([int(n) for n in (call[key] or b.numbers(call.input(i)))] for i, key in ((1, "starts"), (2, "ends")))
    axes = axes_of(b, call, 3) or list(range(len(starts)))
    steps = [int(n) for n in b.numbers(call.input(4))] or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step > 0:
            x = b.emit("slice.Tensor", x, axis, start, min(end, _ENDS), step)
        else:
            places = range(*slice(start, end, step).indices(b.sizes(x)[axis]))
            x = b.emit("index_select.default", x, axis, torch.tensor(list(places), dtype=torch.int64))
    return x


def gathered(b: Builder, call: Call) -> Any:
    """`Gather`."""
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


def parts_of(b: Builder, call: Call) -> Any:
    """`Split`."""
    x, axis = call.inputs[0], call["axis"] or 0
    assert x is not None
    sizes, whole = call["split"] or b.numbers(call.input(1)), b.sizes(x)[axis]
    if not sizes:
        part = math.ceil(whole / call.outputs)
        sizes = [min(part, whole - part * i) for i in range(call.outputs)]
    return b.emit("split_with_sizes.default", x, sizes, axis, makes=len(sizes))


def expanded(b: Builder, call: Call) -> Any:
    """`Expand`; a constant for each image stays one for all."""
    x = call.inputs[0]
    assert x is not None
    sizes = torch.broadcast_shapes(b.sizes(x), tuple(b.numbers(call.inputs[1])))
    if isinstance(x, Tensor) and b.for_images(sizes) and b.sizes(x)[: 1 - len(sizes) or None] in ((), (1,)):
        sizes = (1, *sizes[1:])
    return b.emit("expand.default", x, list(sizes))


def joined(b: Builder, call: Call) -> Any:
    """`Concat`."""
    parts, axis = call.inputs, call["axis"]
    if any(isinstance(part, Value) and b.for_images(b.sizes(part)) for part in parts) and axis:  # a class token for all images
        one = [isinstance(part, Tensor) and b.sizes(part)[:1] == (1,) for part in parts]
        spread = zip(parts, one, strict=True)
        parts = [b.spread(part) if alone and isinstance(part, Tensor) else part for part, alone in spread]
    return b.emit("cat.default", parts, axis)


def padding(b: Builder, call: Call) -> Any:
    """`Pad`."""
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


def constant(b: Builder, call: Call) -> Any:
    """`Constant`."""
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


def shape_of(b: Builder, call: Call) -> Any:
    """`Shape`."""
    x = call.inputs[0]
    assert x is not None
    return torch.tensor(b.sizes(x)[call["start"] or 0 : call["end"]], dtype=torch.int64)


def filled(b: Builder, call: Call) -> Any:
    """`ConstantOfShape`."""
    value = call["value"] if isinstance(call["value"], Tensor) else torch.zeros(1)
    sizes = [int(n) for n in b.numbers(call.inputs[0])]
    return full([1, *sizes[1:]] if b.for_images(sizes) else sizes, value)


def range_of(b: Builder, call: Call) -> Any:
    """`Range`."""
    return counted(*(b.numbers(each)[0] for each in call.inputs))


def resized(b: Builder, call: Call) -> Any:
    """`Resize` and `Upsample`."""
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


def shuffle_by(operator: str) -> Callable[[Builder, Call], Any]:
    """`DepthToSpace` or `SpaceToDepth`."""

    def shuffle(b: Builder, call: Call) -> Any:
        if operator == "pixel_shuffle" and (call["mode"] or b"DCR") != b"CRD":
            raise NotServed("it uses DepthToSpace in the order DCR")
        return b.emit(f"{operator}.default", call.inputs[0], call["blocksize"])

    return shuffle
