"""Spoilt data, `.npz` and image folders, each with the line to run on it."""

import io
import os
import pickle
import shlex
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fingerprints import BN, SEGMENTER
from mutation_archives import bomb, code, no_file
from mutation_ways import FORGED, put, raw
from mutations_networks import distil
from PIL import Image

from datafree.data.labelled import ARRAYS


def use_labelled(random: Random, name: str, masks: bool = False) -> str:
    """A line that reads the labelled data `name`."""
    data, teacher = shlex.quote(name), SEGMENTER if masks else BN
    arch = "compact-segmenter-half" if masks else "small-cnn-quarter"
    evaluated = distil(teacher, f"--recipe procedural-light --method.supply.batch 4 --plan.images-per-round 8 --eval {data}")
    return random.choice(
        (
            f"evaluate {teacher} --data {data} --device cpu",
            f"evaluate {teacher} --data {data} --device cpu --against {BN}",
            f"teach {data} --arch {arch} --epochs 1 --batch 8 --device cpu --out new.safetensors",
            f"teach {data} --arch {arch} --inputs 1x8x8 --epochs 1 --device cpu --out new.safetensors --eval digits.npz",
            distil(BN, f"--recipe stored-mnist --method.path {data}"),
            evaluated.replace("small-cnn-quarter", arch),
        )
    )


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=True)
    return file.getvalue()


def _archive(entries: dict[str, bytes], packed: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packed) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def _entries(base: str) -> dict[str, bytes]:
    with zipfile.ZipFile(base) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def _base(random: Random) -> str:
    return random.choice(("digits.npz", "digits.npz", "masks.npz"))


def _strange(random: Random, array: np.ndarray) -> np.ndarray:
    kinds = (np.float32, np.int16, np.bool_, "S3", "U2", np.complex64, "M8[s]", np.uint64, np.int8, ">u2", "V4", np.float16)
    ways: tuple[Any, ...] = (
        lambda: array.astype(random.choice(kinds)), lambda: array[: random.choice((0, 1, 2, -1))], lambda: array[None],
        lambda: array.reshape(-1), lambda: array[..., None], lambda: np.asfortranarray(array), lambda: array[::-1],
        lambda: np.array(3), lambda: np.zeros((len(array), 0, 8), array.dtype),
        lambda: np.zeros((0, *array.shape[1:]), array.dtype),
        lambda: array.astype(np.int64) + random.choice((-1, 1, 300, 10**6, 2**40, -(2**62))),
        lambda: np.full(array.shape, random.choice((0, 9, 255)), np.uint8), lambda: np.array([FORGED] * len(array)),
        lambda: np.zeros((len(array), 1, 1, random.choice((1, 3, 4, 65))), np.uint8),
        lambda: np.zeros((2, random.choice((1, 3000, 9000)), random.choice((1, 7000))), np.uint8),
        lambda: np.zeros((len(array), 8, 8), [("x", "u1"), ("y", "f4")]), lambda: np.zeros((1,) * 32, np.uint8),
    )  # fmt: skip
    return random.choice(ways)()  # type: ignore[no-any-return]


def arrays(random: Random) -> tuple[str, str]:
    base = _base(random)
    with np.load(base) as opened:
        found = dict(opened)
    changed = random.choice((*found, *found, "void", "classes", "colours", "masks"))
    before = found.get(changed, np.arange(random.choice((1, 3, 12, 300))))
    with np.errstate(all="ignore"):
        try:
            found[changed] = _strange(random, before)
        except (ValueError, TypeError):  # numpy itself refuses
            found[changed] = np.array("x")
    if random.random() < 0.15:
        del found[random.choice(list(found))]
    after = found.get(changed, np.array(0))
    np.savez("foreign.npz", **found)
    return f"{base}: {changed} is {after.dtype} {after.shape}", use_labelled(random, "foreign.npz", base == "masks.npz")


def array_files(random: Random) -> tuple[str, str]:
    """Headers that lie, objects that run code, archives that unpack to gigabytes."""
    base = _base(random)
    entries, name = _entries(base), random.choice(("images.npy", "labels.npy"))
    way = random.choice(("header", "header", "objects", "pickle", "bomb", "version", "bytes", "long", "nested", "twice", "sum"))
    if way == "header":
        shape = random.choice(
            ("(10**12,)", "(1000000000000,)", "(99999999, 8, 8)", "(-1, 8, 8)", "(0, 8, 8)", "()", "(2, 3", "None")
        )
        kind = random.choice(
            ("'|u1'", "'|O'", "'<f8'", "'|V2000000000'", "[('a', '|O')]", "'|S0'", "__import__('os').mkdir('canary')")
        )
        text = f"{{'descr': {kind}, 'fortran_order': {random.choice((True, False, 3))}, 'shape': {shape}, }}"
        entries[name] = (
            b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n" + bytes(random.choice((0, 99)))
        )
    elif way == "objects":
        entries[name] = _npy(np.array([random.choice(code())] * 2, dtype=object))
    elif way == "pickle":
        entries[name] = pickle.dumps(random.choice(code()))
    elif way == "version":
        entries[name] = entries[name][:6] + bytes((random.choice((0, 2, 3, 4, 255)), 0)) + entries[name][8:]
    elif way == "long":
        entries[name] = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{" * 10_000
    elif way == "nested":
        entries[name] = b"\x93NUMPY\x01\x00" + struct.pack("<H", 60_000) + b"(" * 60_000
    elif way == "bytes":
        entries[name] = raw(random, entries[name])
    elif way == "twice":
        entries[name[:-4]] = raw(random, entries[name])
    elif way == "sum":
        entries |= {f"{each}.npy": _npy(np.zeros((2**20, 8, 8), np.uint8)) for each in ARRAYS}
    head = (
        b"\x93NUMPY\x01\x00"
        + struct.pack("<H", 70)
        + f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**25}, 8, 8), }}".ljust(70).encode()
    )
    data = (
        bomb(entries, name, head) if way == "bomb" else _archive(entries, 8 if way == "sum" else random.choice((0, 8, 12, 14)))
    )
    return f"{base}: {name} {way}", use_labelled(random, put(Path("foreign.npz"), data), base == "masks.npz")


def array_bytes(random: Random) -> tuple[str, str]:
    base = _base(random)
    rubbish = (b"", b"rubbish", pickle.dumps(code()[0]), Path(base).read_bytes()[::-1], _npy(np.zeros((4, 8, 8), np.uint8)))
    data = raw(random, Path(base).read_bytes()) if random.random() < 0.8 else random.choice(rubbish)
    name = put(Path(random.choice(("foreign.npz", "foreign.npz", "foreign.npy", "foreign", "-x.npz"))), data)
    return f"{base}, {len(data)} bytes", use_labelled(random, f"./{name}", base == "masks.npz")


def png(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 0) -> bytes:
    """A PNG that declares this size and holds `data`."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    text = chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(2**26))) if len(data) % 2 else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + text + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _encoded(mode: str, form: str, side: int = 8, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((side, side), 60).convert(mode).save(file, form, **options)
    return file.getvalue()


def _picture(random: Random) -> bytes:
    """The bytes of an image that is odd, declares too much, or is spoilt."""
    good = (
        _encoded("L", "PNG"), _encoded("RGB", "PNG"), _encoded("P", "PNG"), _encoded("1", "PNG"), _encoded("RGBA", "PNG"),
        _encoded("I", "TIFF"), _encoded("CMYK", "JPEG"), _encoded("L", "JPEG"), _encoded("RGB", "GIF"), _encoded("F", "TIFF"),
        _encoded("CMYK", "TIFF"), _encoded("RGB", "WEBP"), _encoded("RGB", "BMP"), _encoded("L", "PPM"),
        _encoded("LAB", "TIFF"),
        _encoded("RGB", "TIFF", compression="tiff_lzw"), _encoded("LA", "PNG"), _encoded("RGB", "ICO", side=16), b"P5 7 1",
        _encoded("L", "PNG", side=1), _encoded("RGB", "JPEG", side=3000), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    )  # fmt: skip
    bad = (
        png(2**31 - 1, 2**31 - 1), png(40_000, 40_000), png(8000, 8000), png(8000, 8000, bytes(64_008_000)), png(0, 8),
        png(2**32 - 1, 1), png(8, 8, b"\0" * 70, 16, 3), png(8, 8, b"\0" * 71), png(8, 8, b"\0" * 500, 16, 6), b"", b"rubbish",
        b"P6 99999999 99999999 255\n", b"P6 60000 1000 255\n", b"P5 8 8 65535\n" + bytes(127), b"BM" + b"\xff" * 80,
        b"GIF89a\xff\xff\xff\xff\xf7\0\0", b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 99, b"P4 8",
        b"P7 332\n8 8 255\n", bytes(5000),
    )  # fmt: skip
    picture = random.choice(random.choice((good, bad, good)))
    return raw(random, picture) if random.random() < 0.4 else picture


SUFFIXES = (".png", ".png", ".jpg", ".tif", ".bmp", ".webp", ".ppm", ".PNG", ".npz", "")


def _fill(random: Random, folder: Path, names: tuple[str, ...]) -> None:
    """Whole pictures of these names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(_encoded("L", "PNG"))


def image_folders(random: Random) -> tuple[str, str]:
    """Folders of class folders, in which one picture, name or folder is odd."""
    root = Path(random.choice(("pictures", "pictures", "pic\x1b[31m\ntures")))
    for name in ("0", "1"):
        _fill(random, root / name, ("a.png", "b.png"))
    way = random.choice(("picture",) * 6 + ("name", "thing", "circle", "empty", "deep", "classes", "file", "mixed", "link"))
    there = root / random.choice(("0", "1"))
    if way in ("picture", "mixed"):
        put(there / f"{random.choice(('0', 'z'))}{random.choice(SUFFIXES)}", _picture(random))
    elif way == "name":
        put(there / f"{FORGED.replace(chr(0), '')}.png", random.choice((_picture(random), b"rubbish")))
        os.close(os.open(os.fsencode(there) + b"/\xff\xfe.png", os.O_CREAT))
    elif way == "thing":
        way = no_file(random, there / "c.png")
    elif way == "circle":
        (there / "again").symlink_to(root.absolute())
        (there / "self.png").symlink_to("self.png")
    elif way == "empty":
        shutil.rmtree(there)
        there.mkdir()
    elif way == "deep":
        for _ in range(300):
            there = there / "d"
        there.mkdir(parents=True)
    elif way == "classes":
        for number in range(random.choice((12, 2000))):
            _fill(random, root / f"class {number}", ("a.png",))
    elif way == "link":
        shutil.rmtree(there)
        there.symlink_to(random.choice(("/", "/proc", "/dev", "nowhere", ".")))
    else:
        shutil.rmtree(root / "1")
        (root / "1").write_text("x")
    return way, use_labelled(random, str(root))


def mask_folders(random: Random) -> tuple[str, str]:
    """Folders of images and masks, in which one of them is odd."""
    root = Path("pictures")
    for name in ("images", "masks"):
        _fill(random, root / name, ("a.png", "b.png"))
    (root / "masks" / "a.png").write_bytes(png(8, 8, bytes(72)))
    there = root / random.choice(("images", "masks"))
    way = random.choice(("picture", "picture", "picture", "missing", "none", "thing", "sizes", "file"))
    if way == "picture":
        put(there / "b.png", _picture(random))
    elif way == "missing":
        (root / "masks" / "b.png").unlink()
    elif way == "none":
        shutil.rmtree(there)
        there.mkdir()
    elif way == "thing":
        way = no_file(random, there / "b.png")
    elif way == "sizes":
        put(there / "a.png", _encoded("L", "PNG", side=random.choice((1, 7, 900))))
    else:
        way = no_file(random, there)
    return way, use_labelled(random, str(root), masks=random.random() < 0.7)


def no_files(random: Random) -> tuple[str, str]:
    """Pipes, folders, endless files and links to nowhere in the place of files that a line names."""
    name = random.choice(("digits.npz", BN, "set.safetensors", "weights.pt", "begun-dfad/run.json", "nothing"))
    path = Path(name) if "/" not in name else Path("foreign.json")
    way = no_file(random, path)
    other = random.choice((f"distill {BN} --config {path}", f"pack {path} --arch lenet5 --inputs 1x32x32 --classes 10 --out x"))
    lines = (
        f"inspect {path}", f"evaluate {BN} --data {path} --device cpu", f"evaluate {path} --data digits.npz --device cpu",
        distil(BN, f"--recipe stored-mnist --method.path {path}"), f"export-set {path} --to npz --out x.npz",
        f"teach {path} --arch small-cnn-quarter --epochs 1 --device cpu --out new.safetensors",
        distil(path.name, "--recipe dfad-digits --method.batch 8"), f"{other} --student small-cnn-quarter --out run"
        if "--config" in other else other,
        f"synthesize {path} --recipe dafl-mnist-light --n 4 --batch 4 --device cpu --out made.safetensors",
        f"teach digits.npz --arch small-cnn-quarter --epochs 1 --device cpu --out {path}",
        f"synthesize {BN} --recipe dafl-mnist-light --n 4 --batch 4 --device cpu --out {path}",
        f"inspect set.safetensors --preview {path}", distil(BN, "--recipe dfad-digits --method.batch 8").replace(
            "--out run", f"--out {path}"),
    )  # fmt: skip
    return f"{path} is {way}", random.choice(lines)


DATA = {
    "arrays": arrays,
    "array files": array_files,
    "array bytes": array_bytes,
    "image folders": image_folders,
    "more image folders": image_folders,
    "mask folders": mask_folders,
    "no files": no_files,
}
