"""Ways to spoil what files are made of: JSON trees, bytes, numbers, tensors."""

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

FORGED = "\x1b[31m\x1b[2J\rforged\ndatafree: all is well\u202e\x00"
NUMBERS = (0, -1, 1, 2, 3, 7, 64, 1000, 20_000, 65_536, 2**31, 2**63, 10**9, 10**12, 10**30, 0.5, -0.0, 1e-30, 1e308)
STRANGE: tuple[Any, ...] = (
    *NUMBERS, None, True, False, float("nan"), float("inf"), "", "x", "cuda", "none", "../..", "a" * 5000, FORGED, "\ud800",
    [], {}, [[]], [None], {"": None}, [1, 2, 3], ["x"] * 2000, {"name": "x"}, "1e999", "7",
)  # fmt: skip
TYPES = (
    torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int32, torch.int64, torch.uint8, torch.bool,
    torch.complex64, torch.float8_e4m3fn, torch.uint16,
)  # fmt: skip


def put(path: Path, data: bytes | str) -> str:
    """Write `path` anew, which may be a link to a file that others read; returns its name."""
    path.unlink(missing_ok=True)
    path.write_bytes(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
    return path.name


def deep(levels: int) -> Any:
    """Lists in lists."""
    tree: Any = []
    for _ in range(levels):
        tree = [tree]
    return tree


def tree(random: Random, value: Any, times: int | None = None) -> Any:
    """A copy of a JSON tree with one to three changes."""
    value = copy.deepcopy(value)
    for _ in range(times or random.choice((1, 1, 1, 2, 3))):
        spots = list(_spots(value))
        if not spots:
            return random.choice(STRANGE)
        parent, key = random.choice(spots)
        way = random.choice(("strange", "strange", "strange", "number", "delete", "swap", "wrap", "rename", "deep", "many"))
        old = parent[key]
        if way == "delete":
            del parent[key]
        elif way == "swap":
            other, name = random.choice(spots)
            parent[key], other[name] = copy.deepcopy(other[name]), copy.deepcopy(old)
        elif way == "wrap":
            parent[key] = random.choice(([old], {"x": old}, [old] * 3, str(old)))
        elif way == "rename" and isinstance(parent, dict):
            parent[random.choice(("x", "", FORGED, f"{key}s"))] = parent.pop(key)
        elif way == "deep":
            parent[key] = deep(random.choice((40, 300)))
        elif way == "many" and isinstance(old, list | dict):
            more = [old[0] if isinstance(old, list) and old else 0] * random.choice((17, 5000))
            parent[key] = more if isinstance(old, list) else old | {f"x{i}": each for i, each in enumerate(more)}
        elif way == "number" and isinstance(old, int | float):
            parent[key] = random.choice((-old, old + 1, old - 1, old * 1000, old / 3, str(old), old * 10**9))
        else:
            parent[key] = random.choice(STRANGE)
    return value


def _spots(value: Any) -> Any:
    """Parent and key of every node."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _spots(value[key])


def text_of(random: Random, value: Any) -> str:
    """A tree as JSON, which is rarely spoilt as text too."""
    text = json.dumps(value)
    return raw(random, text.encode()).decode("utf-8", "replace") if random.random() < 0.1 else text


def raw(random: Random, data: bytes) -> bytes:
    """Bytes with one to three changes, half of them near the beginning or the end, where headers and tables lie."""
    for _ in range(random.choice((1, 1, 2, 3))):
        near = random.choice((None, None, 0, max(0, len(data) - 300)))
        at = random.randrange(len(data) + 1) if near is None else min(len(data), near + random.randrange(300))
        size = random.choice((1, 2, 8, 100))
        noise = random.choice((random.randbytes(size), b"\0" * size, b"\xff" * size, b"9" * size, data[:size]))
        way = random.choice(("write", "write", "write", "insert", "delete", "cut", "repeat", "flip"))
        if way == "cut":
            data = data[:at]
        elif way == "flip":
            data = data[:at] + bytes(each ^ 1 << random.randrange(8) for each in data[at : at + 1]) + data[at + 1 :]
        elif way == "repeat":
            data = data[:at] + data[max(0, at - 4 * size) :]
        else:
            data = data[:at] + (b"" if way == "delete" else noise) + data[at + (0 if way == "insert" else size) :]
    return data


def tensor(random: Random, value: Tensor) -> Tensor:
    """Another tensor in place of `value`, plain enough for a safetensors file."""
    value, way = value.clone(), random.choice(("number", "number", "type", "shape", "shape", "size"))
    if way == "number":
        most = torch.finfo(value.dtype).max if value.is_floating_point() else 0
        numbers = (torch.nan, torch.inf, -torch.inf, most, -most, 0.0) if value.is_floating_point() else (0, 1, 127)
        some = value.flatten()[: random.choice((1, value.numel()))]
        some.copy_(torch.tensor(random.choice(numbers), dtype=torch.float64))  # filled, some types refuse infinity
        return value
    if way == "type":
        return value.to(random.choice(TYPES))
    if way == "size" and value.dim():
        size = random.choice((0, 1, len(value) + 1, len(value) - 1))
        return value[:size] if size <= len(value) else torch.cat([value, value[:1]])
    ways = (value.flatten(), value[None], value.T if value.dim() == 2 else value.movedim(0, -1) if value.dim() else value)
    return random.choice((*ways, value.new_ones(()), value.new_zeros(0), value[..., None])).contiguous()


def table(random: Random, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Named tensors with one to three changes of values, names, or both."""
    tensors = dict(tensors)
    for _ in range(random.choice((1, 1, 2, 3))):
        name = random.choice(list(tensors))
        way = random.choice(("value", "value", "value", "delete", "rename", "add", "swap", "all"))
        if way == "delete" and len(tensors) > 1:
            del tensors[name]
        elif way == "rename":
            tensors[random.choice(("", "x", FORGED, f"module.{name}", "a" * 3000))] = tensors.pop(name)
        elif way == "add":
            name = random.choice(("x", FORGED, "num_batches_tracked", "logits"))
            tensors[name] = torch.zeros(random.choice(((), (3,), (0, 9))))
        elif way == "swap":
            other = random.choice(list(tensors))
            tensors[name], tensors[other] = tensors[other].clone(), tensors[name].clone()
        elif way == "all":
            kind = random.choice(TYPES)
            tensors = {key: value.to(kind) for key, value in tensors.items()}
        else:
            tensors[name] = tensor(random, tensors[name])
    return tensors
