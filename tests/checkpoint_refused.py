"""Ways in which networks are saved that `datafree pack` refuses, each by a sentence that names what the file is."""

import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoint_rows import Make, Row, StateDict, optimizer_state, saved, wrapped
from PIL import Image
from safetensors.torch import save_file
from torch import nn


class Runs:
    """An object whose pickle calls for a program."""

    def __reduce__(self) -> Any:
        return os.system, ("touch canary",)


def content(data: bytes) -> Make:
    return lambda path, a, b: path.write_bytes(data)


def scripted(path: Path, first: nn.Module, _: nn.Module) -> None:
    torch.jit.trace(first, torch.zeros(1, 1, 8, 8)).save(path)


def exported(path: Path, first: nn.Module, _: nn.Module) -> None:
    torch.export.save(torch.export.export(first, (torch.zeros(1, 1, 8, 8),)), path)


def packaged(path: Path, first: nn.Module, _: nn.Module) -> None:
    with torch.package.PackageExporter(path) as exporter:
        exporter.extern("**")
        exporter.save_pickle("model", "model.pkl", first.state_dict())


def onnx(path: Path, *_: nn.Module) -> None:
    """ir_version 8, the producer, and a graph with a name, as protobuf has them."""
    graph = b"\x12\x04main"
    path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x032.9" + b"\x3a" + bytes([len(graph)]) + graph + b"\x42\x02\x10\x11")


def dumped(path: Path, first: nn.Module, _: nn.Module) -> None:
    path.write_bytes(pickle.dumps(first.state_dict()))


def numpy_arrays(first: StateDict, _: StateDict) -> dict[str, Any]:
    return {name: value.numpy() for name, value in first.items()}


def npz(path: Path, first: nn.Module, _: nn.Module) -> None:
    with path.open("wb") as file:
        np.savez(file, **{name: value.numpy() for name, value in first.state_dict().items()})


def npy(path: Path, *_: nn.Module) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones((3, 3)))


def zipped(*names: str) -> Make:
    def make(path: Path, *_: nn.Module) -> None:
        with zipfile.ZipFile(path, "w") as packed:
            for name in names:
                packed.writestr(name, b"x")

    return make


def of_saved(change: Any) -> Make:
    """Makes a file of what `change` makes of the bytes of a file of `torch.save`."""

    def make(path: Path, first: nn.Module, _: nn.Module) -> None:
        torch.save(first.state_dict(), path)
        path.write_bytes(change(path.read_bytes()))

    return make


def tarred(data: bytes) -> bytes:
    file, entry = io.BytesIO(), tarfile.TarInfo("weights.pt")
    entry.size = len(data)
    with tarfile.open(fileobj=file, mode="w") as packed:
        packed.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def cut_safetensors(path: Path, first: nn.Module, _: nn.Module) -> None:
    save_file(dict(first.state_dict()), path)
    path.write_bytes(path.read_bytes()[:-100])


def folder(path: Path, *_: nn.Module) -> None:
    path.mkdir()
    (path / "config.json").write_text("{}")


def image(path: Path, *_: nn.Module) -> None:
    Image.new("L", (8, 8)).save(path, "PNG")


def pruned(first: nn.Module) -> nn.Module:
    import torch.nn.utils.prune as prune

    prune.l1_unstructured(first.conv1, "weight", 0.5)
    return first


def quantised(first: StateDict, _: StateDict) -> StateDict:
    return first | {"conv1.weight": torch.quantize_per_tensor(first["conv1.weight"], 0.1, 0, torch.qint8)}


def narrower(first: StateDict, _: StateDict) -> StateDict:
    return first | {"fc2.weight": torch.ones(7, 32), "fc2.bias": torch.ones(7)}


WHOLE = "holds a whole object of class"
JSON = json.dumps
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 46830571\n"

REFUSED = [
    Row(
        "a whole network, `torch.save(model)`",
        lambda path, a, b: torch.save(a, path),
        f"{WHOLE} datafree.networks.architectures.plain.SmallCNN",
    ),
    Row(
        "a whole network under `model`, as of Ultralytics",
        lambda path, a, b: torch.save({"model": a, "best_fitness": torch.tensor(0.9), "optimizer": optimizer_state()}, path),
        "and an object of class datafree.networks.architectures.plain.SmallCNN under 'model'",
    ),
    Row(
        "a state dict with a call of `os.system` beside",
        saved(lambda a, b: {"model": a, "x": Runs()}),
        "reading it would run its code (it calls posix.system)",
    ),
    Row(
        "a state dict with a function of Python's beside",
        saved(lambda a, b: {"model": a, "x": os.system}),
        "reading it would run its code (it contains posix.system)",
    ),
    Row(
        "`pickle.dump` of a state dict",
        dumped,
        "reading it would run its code (it was written by pickle.dump, not by torch.save)",
        file="weights.pkl",
    ),
    Row(
        "`torch.save` with pickle protocol 4",
        saved(lambda a, b: a, pickle_protocol=4),
        "its pickle has protocol 4, and torch's reader without code takes 2",
    ),
    Row("`torch.save` of numpy arrays", saved(numpy_arrays), "as numpy arrays; make each a tensor by torch.from_numpy"),
    Row(
        "a list of parameters",
        lambda path, a, b: torch.save(list(a.parameters()), path),
        "holds no state dict, but a list of tensors without names",
    ),
    Row("one tensor", saved(lambda a, b: a["conv1.weight"]), "holds no state dict, but one tensor without a name"),
    Row("only numbers", saved(lambda a, b: {"epoch": 3, "lr": 0.1}), "holds no state dict, but a dict of 'epoch', 'lr'"),
    Row(
        "only the optimizer",
        saved(lambda a, b: {"optimizer": optimizer_state()}),
        "holds no state dict, but a dict of 'optimizer'",
    ),
    Row(
        "parameters without buffers",
        lambda path, a, b: torch.save(dict(a.named_parameters()), path),
        "missing: bn1.running_mean, bn1.running_var",
    ),
    Row("a head of other classes", saved(narrower), "2 misshapen: fc2.weight ([7, 32] in the file, [10, 32] in the network)"),
    Row("another network", saved(lambda a, b: nn.Linear(3, 3).state_dict()), "2 unexpected: weight, bias"),
    Row(
        "names without a common beginning that fits",
        saved(lambda a, b: {f"{n[:2]}.{n}": v for n, v in a.items()}),
        "do not fit small-cnn-quarter",
    ),
    Row(
        "masks of `torch.nn.utils.prune`",
        wrapped(pruned),
        "1 missing: conv1.weight; 2 unexpected: conv1.weight_orig, conv1.weight_mask",
    ),
    Row("quantised tensors", saved(quantised), "holds the weights of a quantised network"),
    Row(
        "sparse tensors",
        saved(lambda a, b: a | {"conv1.weight": a["conv1.weight"].to_sparse()}),
        "holds a tensor that is sparse, 'conv1.weight'",
    ),
    Row(
        "tensors on the meta device",
        saved(lambda a, b: a | {"conv1.weight": a["conv1.weight"].to("meta")}),
        "holds a tensor that is without its numbers, 'conv1.weight'",
    ),
    Row(
        "`student` and `teacher`, and no `--which`",
        saved(lambda a, b: {"student": a, "teacher": b}),
        "holds several weights that fit, 'student', 'teacher', which differ; choose one, as --which student",
    ),
    Row(
        "no averaged weights",
        saved(lambda a, b: {"model": a}),
        "holds no averaged weights that fit, but those of 'model'",
        which="ema",
    ),
    Row(
        "only averaged weights",
        saved(lambda a, b: {"model_ema": a}),
        "holds only averaged weights that fit, but those of 'model_ema'",
        which="model",
    ),
    Row("TorchScript, with `--arch`", scripted, "is TorchScript, which is a whole network"),
    Row(
        "`torch.export`, with `--arch`", exported, "is a program of torch.export, which is a whole network", file="teacher.pt2"
    ),
    Row("`torch.package`", packaged, "is a torch.package archive, which holds code"),
    Row("ONNX, with `--arch`", onnx, "is an ONNX file, which is a whole network", file="teacher.onnx"),
    Row("ONNX under another ending, with `--arch`", onnx, "is an ONNX file, which is a whole network"),
    Row("Keras 3", zipped("metadata.json", "config.json", "model.weights.h5"), "is a Keras network", file="teacher.keras"),
    Row("Keras, HDF5", content(b"\x89HDF\r\n\x1a\n" + bytes(99)), "is an HDF5 file, as of Keras", file="teacher.h5"),
    Row("TensorFlow's `saved_model.pb`", content(b"\x08\x01\x12\x05hello"), "is a TensorFlow network", file="saved_model.pb"),
    Row("TensorFlow Lite", content(b"\x1c\0\0\0TFL3" + bytes(99)), "is a TensorFlow Lite network", file="teacher.tflite"),
    Row("ExecuTorch", content(b"\x1c\0\0\0ET12" + bytes(99)), "is an ExecuTorch program", file="teacher.pte"),
    Row("GGUF", content(b"GGUF\x03\0\0\0" + bytes(99)), "is a GGUF file of quantised weights", file="teacher.gguf"),
    Row("`.npz`", npz, "is an archive of numpy arrays", file="weights.npz"),
    Row("`.npy`", npy, "is one numpy array", file="weights.npy"),
    Row("a folder of Hugging Face or of torch.distributed, with `--arch`", folder, "says its own architecture", file="teacher"),
    Row(
        "`model.safetensors.index.json`",
        content(JSON({"metadata": {"total_size": 9}, "weight_map": {}}).encode()),
        "is the list of a network's several weights files",
        file="model.safetensors.index.json",
    ),
    Row(
        "`config.json`", content(b'{"model_type": "resnet"}'), "is a JSON text, as of a network's settings", file="config.json"
    ),
    Row("gzip of a file of weights", of_saved(gzip.compress), "is a compressed file", file="weights.pt.gz"),
    Row(
        "zip of a file of weights",
        zipped("weights.pt", "README.md"),
        "is a zip archive of files that are no torch weights",
        file="weights.zip",
    ),
    Row("tar of a file of weights", of_saved(tarred), "is a tar archive", file="weights.tar"),
    Row("an image", image, "is an image"),
    Row("a pointer of Git LFS", content(LFS), "is a Git LFS pointer, a text that stands for the file"),
    Row(
        "a web page in place of the download",
        content(b"\n<!DOCTYPE html><html><title>Quota"),
        "is a web page, as of a download that failed",
    ),
    Row("an empty file", content(b""), "is an empty file"),
    Row(
        "a download that stopped",
        of_saved(lambda data: data[:-400]),
        "is an archive whose end is missing, as after a download that stopped",
    ),
    Row(
        "a download of safetensors that stopped",
        cut_safetensors,
        "is not a safetensors file, or is cut short",
        file="model.safetensors",
    ),
    Row("bytes that are nothing of this", content(b"not weights"), "is not a weights file that torch can read"),
]
