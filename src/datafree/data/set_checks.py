"""Whether the tensors of a transfer set's shard fit each other and the set's card, and hold numbers that they can hold."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datafree.core.spec import InputSpec

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # of targets and logits
COLUMNS = {"pixels": (4,), "targets": (2,), "logits": (2, 4)}  # tensors of a shard, with the dimensions that each may have
CHUNK = 2**24  # numbers that are checked together when a set is opened, so that a large set takes little memory


def mismatch(tensors: Mapping[str, Tensor], inputs: InputSpec, made: Mapping[str, Any]) -> str | None:
    """What is wrong with the tensors of a shard, whose card says `inputs` and `made`, or None."""
    pixels = tensors.get("pixels")
    if pixels is None or pixels.dim() != 4 or pixels.dtype not in (torch.uint8, torch.float16):
        seen = "none" if pixels is None else _described(pixels)
        return f"pixels are {seen}, not uint8 or float16 [N, C, H, W]"
    if not len(pixels) or tuple(pixels.shape[1:]) != inputs.shape:
        return f"it holds {len(pixels)} images of {'x'.join(map(str, pixels.shape[1:]))}, and its card says {inputs}"
    for name, value in tensors.items():
        if value.dim() not in COLUMNS[name] or (name != "pixels" and value.dtype not in _FLOATS):
            return f"{name} are {_described(value)}, not float16 or float32 [N, classes]"
        if len(value) != len(pixels):
            return f"its tensors differ in length (pixels {len(pixels)}, {name} {len(value)})"
    classes = {name: value.shape[1] for name, value in tensors.items() if name != "pixels"}
    if len({*classes.values()}) > 1 or min(classes.values(), default=2) < 2:
        return f"its classes are {', '.join(f'{count} in the {name}' for name, count in classes.items())}"
    kind = made.get("pixels", _type(pixels))
    if kind != _type(pixels) or (made.get("logits") is True) > ("logits" in tensors):
        return f"its card says that it holds {kind} pixels{' and logits' if made.get('logits') is True else ''}"
    return _bad_numbers(tensors)


def layout(part: Mapping[str, Tensor]) -> list[str]:
    """Names, types and shapes of the tensors of a shard, without their lengths."""
    return [f"{name} {_type(part[name])} {list(part[name].shape[1:])}" for name in COLUMNS if name in part]


def _bad_numbers(tensors: Mapping[str, Tensor]) -> str | None:
    """Which tensor holds numbers that it cannot hold, or None."""
    for name, value in tensors.items():
        rows = value.flatten(1).split(max(1, CHUNK * len(value) // max(1, value.numel()))) if value.is_floating_point() else ()
        if name == "targets" and not all(((part >= 0) & (part <= 1.001)).all() for part in rows):
            return "some of its targets are no probabilities"
        if not all(part.isfinite().all() for part in rows):
            return f"some of its {name} are not finite"
    return None


def _described(value: Tensor) -> str:
    return f"{_type(value)} {list(value.shape)}"


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
