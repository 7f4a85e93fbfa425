"""What a file is, by its first bytes and the names in its archive: nothing in it is run or unpacked."""

import contextlib
import zipfile
from pathlib import Path
from typing import Literal

FileType = Literal[
    "safetensors",
    "torch",
    "torchscript",
    "torch.export",
    "torch.package",
    "onnx",
    "keras",
    "tensorflow",
    "hdf5",
    "tflite",
    "executorch",
    "gguf",
    "npz",
    "npy",
    "image",
    "compressed",
    "tar",
    "zip",
    "cut zip",
    "pointer",
    "page",
    "shards",
    "json",
    "empty",
    "folder",
    "unknown",
]
_SAVE = "torch.save(model.state_dict(), 'weights.pt')"
_UNPACK = "unpack it, and give the weights file in it"
DESCRIPTIONS: dict[FileType, tuple[str, str]] = {
    "torch": ("a file of torch.save", "make a network file of it with `datafree pack`"),
    # Whole networks come here where weights are asked for: as teachers they are taken as they are.
    "torchscript": ("a TorchScript program", "save its weights, torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')"),
    "torch.export": (
        "a torch.export program",
        "save its weights, torch.save(torch.export.load(FILE).state_dict, 'weights.pt')",
    ),
    "torch.package": ("a torch.package archive, which holds code", f"load the network yourself and save its weights, {_SAVE}"),
    "onnx": ("an ONNX network", f"save the weights of the torch network that it was exported from, {_SAVE}"),
    "keras": ("a Keras network", f"build the same network in torch, copy its weights, and save them, {_SAVE}"),
    "tensorflow": ("a TensorFlow network", f"build the same network in torch, copy its weights, and save them, {_SAVE}"),
    "hdf5": ("an HDF5 file, as of Keras", f"build the same network in torch, copy its weights, and save them, {_SAVE}"),
    "tflite": ("a TensorFlow Lite network", f"save the weights of the torch network that it was made from, {_SAVE}"),
    "executorch": ("an ExecuTorch program", f"save the weights of the torch network that it was exported from, {_SAVE}"),
    "gguf": ("a GGUF file of quantised weights", f"save the float weights that it was made from, {_SAVE}"),
    "npz": ("an archive of numpy arrays", "save them as tensors, torch.save({name: torch.from_numpy(array)}, 'weights.pt')"),
    "npy": ("one numpy array", f"save all weights with their names, {_SAVE}"),
    "image": ("an image", "give the weights file"),
    "compressed": ("a compressed file", _UNPACK),
    "tar": ("a tar archive", _UNPACK),
    "zip": ("a zip archive of files that are no torch weights", _UNPACK),
    "cut zip": ("an archive whose end is missing, as after a download that stopped", "copy or download it again"),
    "pointer": ("a Git LFS pointer, a text that stands for the file", "run `git lfs pull` where it lies"),
    "page": ("a web page, as of a download that failed", "download the file itself, by its raw or direct link"),
    "shards": ("the list of a network's several weights files", "read them all into one state dict and save that"),
    "json": ("a JSON text, as of a network's settings", "give the weights file that lies beside it"),
    "empty": ("an empty file", "copy or download it again"),
    "folder": ("a folder", "give the weights file in it"),
}  # of each type but safetensors: what it is, and what to do
_STARTS: tuple[tuple[int, bytes, FileType], ...] = (
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (0, b"GGUF", "gguf"),
    (0, b"\x93NUMPY", "npy"),
    (4, b"TFL3", "tflite"),
    (4, b"ET1", "executorch"),
    (0, b"\x89PNG\r\n\x1a\n", "image"),
    (0, b"\xff\xd8\xff", "image"),
    (0, b"GIF8", "image"),
    (8, b"WEBP", "image"),
    (0, b"II*\x00", "image"),
    (0, b"MM\x00*", "image"),
    (0, b"\x1f\x8b", "compressed"),  # gzip
    (0, b"\xfd7zXZ\x00", "compressed"),
    (0, b"BZh", "compressed"),
    (0, b"\x28\xb5\x2f\xfd", "compressed"),  # zstd
    (0, b"7z\xbc\xaf\x27\x1c", "compressed"),
    (0, b"Rar!\x1a\x07", "compressed"),
    (257, b"ustar", "tar"),
    (0, b"version https://git-lfs", "pointer"),
)  # offset and bytes
_ZIPPED: tuple[tuple[str, FileType], ...] = (
    ("constants.pkl", "torchscript"),
    ("bytecode.pkl", "torchscript"),
    ("archive_format", "torch.export"),
    ("serialized_exported_program.json", "torch.export"),
    ("extern_modules", "torch.package"),
    ("data.pkl", "torch"),
    ("model.weights.h5", "keras"),
    ("model.weights.npz", "keras"),
)  # a file's name in an archive, first come first taken
_START = 512  # bytes that are looked at
_ONNX_FIELDS = {2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}  # of a ModelProto, after ir_version
_OLDEST, _NEWEST = 3, 64  # versions of ONNX's form


def file_type(path: Path) -> FileType:
    """What the file or folder at `path` is; `torch` is an archive of `torch.save`, and an old or bare pickle is `unknown`.

    Raises `OSError` if it cannot be read.
    """
    if path.is_dir():
        return "folder"
    with path.open("rb") as file:
        start = file.read(_START)
    if not start:
        return "empty"
    if start.startswith(b"PK\x03\x04"):
        return _zip_type(path)
    for offset, magic, found in _STARTS:
        if start.startswith(magic, offset):
            return found
    if start[8:9] == b"{" and start[4:8] == bytes(4):  # after the length of a header, eight bytes
        return "safetensors"
    if _is_onnx(start, path.suffix):
        return "onnx"
    if path.name == "saved_model.pb" or path.suffix == ".pb":
        return "tensorflow"
    return _text_type(start)


def _text_type(start: bytes) -> FileType:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        return "page"
    if text.startswith(b"{") and b'"' in text:
        return "shards" if b'"weight_map"' in text or b'"total_size"' in text else "json"
    return "unknown"


def _zip_type(path: Path) -> FileType:
    try:
        with zipfile.ZipFile(path) as packed:
            names = packed.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # the end is missing, or lies
        return "cut zip"
    ends = {name.rpartition("/")[2] for name in names}
    for name, found in _ZIPPED:
        if name in ends:
            return found
    return "npz" if names and all(name.endswith(".npy") for name in names) else "zip"


def _is_onnx(start: bytes, suffix: str) -> bool:
    """Whether `start` are the first fields of a protobuf as ONNX has them: its version, then texts, the graph or opsets."""
    with contextlib.suppress(IndexError):
        if start[0] != 0x08 or not _OLDEST <= start[1] <= _NEWEST:  # field 1, a small whole number
            return suffix == ".onnx"
        return suffix == ".onnx" or start[2] >> 3 in _ONNX_FIELDS
    return suffix == ".onnx"
