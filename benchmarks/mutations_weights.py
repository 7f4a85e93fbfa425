"""Spoilt state dicts and transfer sets, each with the line to run on it."""

import argparse
import json
import pickle
import warnings
import zipfile
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from fingerprints import BN
from mutation_archives import bomb, joined, no_file, relabelled, split, spoilt_pickle
from mutation_ways import FORGED, put, raw, text_of, tree
from mutations_networks import distil, spoilt_header, spoilt_tensors
from reliability_kills import SET, WEIGHTS
from safetensors.torch import save_file
from torch import Tensor

SHARDS = ("shards-00001-of-00002.safetensors", "shards-00002-of-00002.safetensors")
SET_CARD = "datafree.set"
PACK = "pack {} --arch small-cnn-half --inputs 1x8x8 --mean 0.3 --std 0.4 --classes 10 --out packed.safetensors"

ODD: dict[str, Callable[[Tensor], Any]] = {
    "None": lambda value: None,
    "a number": lambda value: 3,
    "text": lambda value: "x",
    "lists": lambda value: value.tolist(),
    "a shape": lambda value: value.shape,
    "a type": lambda value: value.dtype,
    "a dict": lambda value: {"x": {}},
    "sparse": lambda value: value.to_sparse(),
    "sparse rows": lambda value: value.flatten(1).to_sparse_csr() if value.dim() > 1 else value.to_sparse(),
    "quantised": lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
    "complex": lambda value: value.to(torch.complex64),
    "conjugated": lambda value: value.to(torch.complex64).conj(),
    "bool": lambda value: value.bool(),
    "one number": lambda value: torch.tensor(1.0),
    "endless": lambda value: torch.zeros(1).expand(10**12),
    "wide": lambda value: torch.zeros(1).expand(10**6, 10**6),
    "on meta": lambda value: value.to("meta"),
    "a parameter": torch.nn.Parameter,
    "half": lambda value: value.half(),
    "double": lambda value: value.double(),
    "eighth": lambda value: value.to(torch.float8_e4m3fn),
    "one for all": lambda value: torch.zeros(1).expand_as(value),
    "nested": lambda value: torch.nested.nested_tensor([value[0], value[0]]),
    "empty": lambda value: value.new_empty(0),
    "strided": lambda value: value.flatten()[::2],
    "NaN": lambda value: torch.full_like(value, torch.nan),
}  # in place of a tensor of a state dict


def state_values(random: Random) -> tuple[str, str]:
    state: dict[Any, Any] = dict(torch.load(WEIGHTS, weights_only=True))
    first = random.choice([name for name, value in state.items() if value.is_floating_point() and value.dim()])
    value = state[first]
    name = random.choice(list(ODD))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forms that torch will give up
        odd = ODD[name](value)
    whole: Any = state | {random.choice((first, first, "x", 3, None, ("a",), FORGED, "0._packed_params.dtype")): odd}
    way = random.choice(("plain", "plain", "state_dict", "model", "prefix", "list", "inside", "tensor"))
    if way in ("state_dict", "model"):
        whole = {way: whole, "epoch": 3}
    elif way == "prefix":
        whole = {f"module.{name}": each for name, each in whole.items()}
    elif way == "list":
        whole = list(whole.items())
    elif way == "inside":
        whole = {"model": {"model": {"state_dict": whole}}}
    elif way == "tensor":
        whole = odd
    path = Path(f"foreign{random.choice(('.pt', '.pth', '.th'))}")
    torch.save(whole, path)
    return f"{first} is {name}, {way}", PACK.format(path)


class Others:
    """An object of a class that is not torch's, with whatever state."""

    def __init__(self, inside: Any):
        self.inside = inside


ENDLESS = torch.zeros(1).expand(10**12)
PREFIXES = ("module.", "model.", "_orig_mod.", "a.b.c.", FORGED, "." * 40)
PLACES: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "a circle": lambda state: circle(state),
    "deep": lambda state: deep(state, 200),
    "less deep": lambda state: deep(state, 3),
    "many dicts": lambda state: {str(i): {str(j): {"x": state} for j in range(100)} for i in range(200)},
    "many copies": lambda state: {f"fold{i}": {name: value + i for name, value in state.items()} for i in range(30)},
    "many names": lambda state: {f"{i}.{name}": value for i in range(1000) for name, value in state.items()},
    "dotted names": lambda state: {"a." * 5000 + name: value for name, value in state.items()},
    "long names": lambda state: {name + "x" * 10**6: value for name, value in state.items()},
    "averaged, endless": lambda state: {"model": state, "ema": dict.fromkeys(state, ENDLESS)},
    "averaged, complex": lambda state: {"model": state, "ema": {name: value.to(torch.cfloat) for name, value in state.items()}},
    "averaged, sparse": lambda state: {"model": state, "ema": {name: value.to_sparse() for name, value in state.items()}},
    "counters, endless": lambda state: state | {name: ENDLESS for name in state if name.endswith("tracked")},
    "others": lambda state: {"model": state, "args": Others(ENDLESS), "x": [Others(None), argparse.Namespace(x=Others(state))]},
    "others as keys": lambda state: {Others(1): state, Others(2): 3, "model": state},
    "others as tensors": lambda state: {name: Others(value) for name, value in state.items()},
    "others filled": lambda state: {"model": state, "counts": defaultdict(list, {"x": [Others(2)]}), "last": deque([1])},
}  # of a state dict in a checkpoint


def circle(state: dict[str, Tensor]) -> dict[str, Any]:
    whole: dict[str, Any] = {"state_dict": state}
    whole["circle"] = whole
    return whole


def deep(state: Any, levels: int) -> Any:
    for _ in range(levels):
        state = {"model": state, "ema": state}
    return state


def checkpoints(random: Random) -> tuple[str, str]:
    """State dicts as people save them, with odd names, odd places and objects of others."""
    state = dict(torch.load(WEIGHTS, weights_only=True))
    if random.random() < 0.5:
        prefixes = random.choices(PREFIXES, k=random.choice((1, 1, 3)))
        state = {random.choice(prefixes) + name: value for name, value in state.items()}
    way = random.choice(list(PLACES))
    torch.save(PLACES[way](state), "foreign.ckpt")
    which = random.choice(("", "", " --which ema", " --which model", " --which x/y"))
    if random.random() < 0.3:
        put(Path("foreign.ckpt"), raw(random, Path("foreign.ckpt").read_bytes()))
    return way + which, PACK.format("foreign.ckpt") + which


STARTS = (
    b"PK\x03\x04",
    b"\x08\x08\x12",
    b"\x89HDF\r\n\x1a\n",
    b"GGUF",
    b"{",
    b"\0\1\0\0\0\0\0\0{",
    b"<html",
    b"version https://git-lfs",
)


def other_files(random: Random) -> tuple[str, str]:
    """Files and archives of other programs, and what begins like one."""
    way = random.choice(("start", "archive", "archive", "folder"))
    path = Path(f"foreign{random.choice(('.pt', '.onnx', '.pt2', '.safetensors', '.pb', ''))}")
    if way == "start":
        put(path, random.choice(STARTS) + random.randbytes(random.choice((0, 9, 600))))
    elif way == "folder":
        path.mkdir()
    else:
        names = ("constants.pkl", "data.pkl", "archive_format", "model.weights.h5", "x.npy", "../x", "x/", "a" * 60_000)
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as packed:
            warnings.simplefilter("ignore")  # of a name that is there twice
            for _ in range(random.choice((0, 1, 2, 3000))):
                packed.writestr(random.choice(names), random.randbytes(9))
        if random.random() < 0.5:
            put(path, raw(random, path.read_bytes()))
    return way, PACK.format(path)


def state_pickles(random: Random) -> tuple[str, str]:
    data = spoilt_pickle(random, dict(torch.load(WEIGHTS, weights_only=True)))
    return f"{len(data)} bytes", PACK.format(put(Path(f"foreign{random.choice(('.pt', '.pth', '', '.bin'))}"), data))


def state_bytes(random: Random) -> tuple[str, str]:
    rubbish = (
        b"",
        b"rubbish" * 9,
        pickle.dumps({"x": 1}),
        b"PK\x03\x04" * 30,
        b"\x80\x02}q\x00.",
        b"\x80\x04\x95" + b"\xff" * 8,
    )
    data = raw(random, Path(WEIGHTS).read_bytes()) if random.random() < 0.8 else random.choice(rubbish)
    return f"{len(data)} bytes", PACK.format(put(Path("foreign.pt"), data))


def use(random: Random, file: str) -> str:
    """A line that reads the set `file`."""
    form, out = random.choice((("imagefolder", "images"), ("webdataset", "tars"), ("npz", "exported.npz")))
    return random.choice(
        (
            f"inspect {file}",
            f"export-set {file} --to {form} --out {out}",
            f"export-set {file} --to {form} --out {out}",
            distil(BN, f"--recipe stored-mnist --method.path {file}"),
            distil(BN, f"--recipe stored-sttss-mnist --method.path {file} --plan.pool-size 24"),
        )
    )


def set_card(random: Random) -> tuple[str, str]:
    base, found = random.choice((SET, *SHARDS)), []

    def change(card: Any) -> str:
        found.append(text_of(random, tree(random, card)))
        return str(found[0])

    put(Path(base), relabelled(Path(base).read_bytes(), SET_CARD, change))
    return f"{base}: {found[0]}", use(random, random.choice((base, "shards.safetensors" if base in SHARDS else base)))


def set_tensors(random: Random) -> tuple[str, str]:
    base = random.choice((SET, *SHARDS))
    return spoilt_tensors(random, base), use(random, random.choice((base, "shards.safetensors" if base in SHARDS else base)))


def set_bytes(random: Random) -> tuple[str, str]:
    base = random.choice((SET, *SHARDS))
    if random.random() < 0.5:
        return spoilt_header(random, base), use(random, base)
    data = raw(random, Path(base).read_bytes())
    return f"{base}, {len(data)} bytes", use(random, put(Path(base), data))


def long_headers(random: Random) -> tuple[str, str]:
    """Networks and sets with very many empty tensors, or with very long metadata."""
    base, tensors = random.choice((BN, SET)), random.choice((150_000, 3))
    header, body = split(Path(base).read_bytes())
    header |= {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [len(body), len(body)]} for i in range(tensors)}
    if tensors == 3:
        header["__metadata__"] |= {f"m{i}": "x" for i in range(200_000)}
    put(Path(base), joined(header, body))
    return f"{base} with {tensors} more tensors", use(random, base) if base == SET else f"inspect {base}"


def set_shards(random: Random) -> tuple[str, str]:
    first, second = (Path(name) for name in SHARDS)
    way = random.choice(("missing", "twice", "other", "more", "single", "thing", "renamed", "alone", "network", "many"))
    if way in ("missing", "alone"):
        random.choice((first, second)).unlink()
    elif way in ("twice", "other", "network"):
        put(second, Path({"twice": first, "other": SET, "network": BN}[way]).read_bytes())
    elif way == "more":
        put(Path("shards-00003-of-00003.safetensors"), first.read_bytes())
    elif way == "single":
        put(Path("shards.safetensors"), first.read_bytes())
    elif way == "renamed":
        first.rename("shards-00000-of-00002.safetensors")
    elif way == "many":
        card = {
            "format": 1,
            "inputs": {"shape": (1, 8, 8)},
            "provenance": "none",
            "shards": random.choice((99_999, 10**8, 10**20)),
        }
        save_file({"pixels": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}, "new.safetensors", {SET_CARD: json.dumps(card)})
        put(first, Path("new.safetensors").read_bytes())
    else:
        way = no_file(random, second)
    return way, use(random, random.choice(("shards.safetensors", *SHARDS)))


def zip_bombs(random: Random) -> tuple[str, str]:
    with zipfile.ZipFile(WEIGHTS) as packed:
        entries = {entry.filename: packed.read(entry) for entry in packed.infolist()}
    name = random.choice(list(entries))
    return name, PACK.format(put(Path("foreign.pt"), bomb(entries, name)))


WEIGHTS_AND_SETS = {
    "state dict values": state_values,
    "state dict pickles": state_pickles,
    "state dict bytes": state_bytes,
    "state dict checkpoints": checkpoints,
    "state dict other files": other_files,
    "state dict bombs": zip_bombs,
    "set cards": set_card,
    "set tensors": set_tensors,
    "set bytes": set_bytes,
    "set shards": set_shards,
    "long headers": long_headers,
}
