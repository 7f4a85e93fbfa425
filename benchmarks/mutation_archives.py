"""Ways to spoil whole files: safetensors, pickles, zip archives, and things in their place that are no files."""

import codecs
import io
import json
import os
import pickle
import shutil
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from mutation_ways import raw

CANARY = "canary"  # the file in the current folder that appears where code of a foreign file runs


def split(file: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and body of a safetensors file."""
    size = int.from_bytes(file[:8], "little")
    return json.loads(file[8 : 8 + size]), file[8 + size :]


def joined(header: Any, body: bytes, length: int | None = None) -> bytes:
    """A safetensors file of this header, which claims to be `length` bytes long."""
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def relabelled(file: bytes, label: str, change: Callable[[Any], str]) -> bytes:
    """A safetensors file in whose metadata the JSON tree `label` is changed."""
    header, body = split(file)
    header["__metadata__"][label] = change(json.loads(header["__metadata__"][label]))
    return joined(header, body)


class Calls:
    """A pickle of this calls a function when it is read."""

    def __init__(self, function: Callable[..., object], *arguments: object):
        self.made = function, arguments

    def __reduce__(self) -> Any:
        return self.made


def code() -> tuple[Calls, ...]:
    """Objects whose pickles run code that makes the canary, by several ways."""
    made = f"open({CANARY!r}, 'w')"
    return (
        Calls(open, CANARY, "w"),
        Calls(eval, made),
        Calls(exec, made),
        Calls(os.mkdir, CANARY),
        Calls(Path.touch, Path(CANARY)),
    )


def hungry() -> tuple[Any, ...]:
    """Objects whose pickles call, by functions that torch allows, for gigabytes: by a number, or by a tensor without end."""
    endless = torch.zeros(1).expand(BOMB)
    text: Any = "x" * 9
    for _ in range(30):
        text = Calls(codecs.encode, text, "hex" if isinstance(text, Calls) else "latin1")  # twice as long each time
    return (
        Calls(bytearray, BOMB),
        Calls(torch.Tensor, BOMB // 4),
        Calls(torch.DoubleTensor, BOMB // 8),
        Calls(torch.UntypedStorage, BOMB),
        Calls(torch._tensor._rebuild_from_type_v2, bytearray, bytearray, (BOMB,), {}),
        Calls(set, endless),
        Calls(OrderedDict, [endless]),
        text,
    )


def laughs() -> list[Any]:
    """Lists within lists, 2^60 when each is counted wherever it stands, and 60 in a file."""
    found: list[Any] = [0.0]
    for _ in range(60):
        found = [found, found]
    return found


def spoilt_pickle(random: Random, value: object) -> bytes:
    """A file of `torch.save` that runs code, unpacks to gigabytes, is of the old form, or holds a pickle that is spoilt."""
    way = random.choice(("code", "code", "part", "legacy", "bare", "bomb", "pickle", "numbers", "names", "call"))
    evil = random.choice((*code(), laughs()))
    if way == "part" and isinstance(value, dict):
        value = {**value, random.choice(list(value)): evil}
    elif way in ("code", "bare"):
        value = evil
    elif way == "call":
        value = {"x": random.choice(hungry())}
    if way == "bare":
        return pickle.dumps(value, protocol=random.choice((0, 2, 4)))
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=way != "legacy")
    data = file.getvalue()
    if way == "legacy":
        return raw(random, data) if random.random() < 0.7 else data
    if way in ("code", "part", "call"):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        entries = {entry.filename: packed.read(entry) for entry in packed.infolist()}
    if way == "bomb":
        return bomb(entries, next(name for name in entries if name.endswith("data/0")))
    for name in list(entries):
        if name.endswith("data.pkl") and way != "names":
            change = _counts if way == "numbers" else raw
            entries[name] = change(random, entries[name])
        elif way == "names" and random.random() < 0.2:
            content = entries.pop(name)
            entries[random.choice((name.upper(), f"../{name}", name.replace("data", "x"), name))] = raw(random, content)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    return file.getvalue()


def _counts(random: Random, data: bytes) -> bytes:
    """A pickle in which a small whole number, as of a shape, a stride or an offset, is another one."""
    places = [i for i in range(len(data) - 1) if data[i : i + 1] == b"K"]
    if not places:
        return raw(random, data)
    at, number = random.choice(places), random.choice((0, -1, 2**31 - 1, 2**40, 2**62, -(2**63)))
    return data[:at] + pickle.dumps(number, protocol=2)[2:-1] + data[at + 2 :]


BOMB = 3 * 2**30  # bytes that a bomb unpacks to


@lru_cache(1)
def _zeros() -> tuple[bytes, int]:
    """`BOMB` zeros, deflated, and their CRC."""
    packer, block, crc = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(2**24), 0
    part = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(BOMB // len(block)):
        crc = zlib.crc32(block, crc)
    return part * (BOMB // len(block)) + packer.flush(), crc


def bomb(entries: dict[str, bytes], name: str, head: bytes = b"") -> bytes:
    """A zip archive of `entries` in which `name` unpacks to `head` and gigabytes of zeros."""
    packed, crc = _zeros()
    if head:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed, crc = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH) + packed, 0
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for each, content in entries.items():
            archive.writestr(each, packed if each == name else content)
        entry = archive.getinfo(name)
        entry.compress_type, entry.file_size, entry.CRC = zipfile.ZIP_DEFLATED, BOMB + len(head), crc
    return file.getvalue()


def no_file(random: Random, path: Path) -> str:
    """Something at `path` that is no file, or none that ends; returns what it is."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    way = random.choice(("pipe", "folder", "endless", "circle", "nowhere", "empty", "sparse", "memory"))
    if way == "pipe":
        os.mkfifo(path)
    elif way == "folder":
        path.mkdir()
    elif way == "empty":
        path.touch()
    elif way == "sparse":
        with path.open("wb") as file:
            file.truncate(2**40)
    else:
        path.symlink_to({"endless": "/dev/zero", "circle": path.name, "nowhere": "nowhere", "memory": "/proc/self/mem"}[way])
    return way
