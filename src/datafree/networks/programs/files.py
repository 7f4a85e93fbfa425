"""Files of whole networks without code: which kind a file is, and the module in it."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from datafree.core.filetypes import file_type
from datafree.networks.programs.archive import is_exported
from datafree.networks.programs.batch import freed
from datafree.networks.programs.exported import read_exported
from datafree.networks.programs.onnx_file import Session, read_onnx
from datafree.networks.programs.program import Program
from datafree.networks.programs.scripted import Scripted, is_scripted, read_scripted

EXPORTED, SCRIPTED, ONNX = "program of torch.export", "TorchScript", "ONNX file"
PROGRAM, AS_IT_IS, BOXED, ASKED = "program", "torchscript", "onnx", "black-box"  # what a card calls them
BLACK_BOXES = (AS_IT_IS, BOXED, ASKED)  # those that are not written to network files; the last one is a function


@dataclass(frozen=True)
class Found:
    """A network in a file.

    Args:
        module: takes images [B, C, H, W], in eval mode.
        architecture: what a card calls it.
        shape: of one image.
        notes: what a person should know of it.
        images: the number for which it was made, if it was for one only; the module takes any.
        probed: whether the shape is the only usual one that fits, rather than one that the file says.
    """

    module: nn.Module
    architecture: str
    shape: tuple[int, ...]
    notes: tuple[str, ...] = ()
    images: int | None = None
    probed: bool = False


def kind_of(path: Path) -> str:
    """What whole network a file holds, by its first bytes and the names in it, of ONNX also by its name; empty if none."""
    if path.suffix.lower() == ".onnx" or file_type(path) == "onnx":
        return ONNX
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return ""
    if is_exported(path):
        return EXPORTED
    return SCRIPTED if is_scripted(path) else ""


def read_network(path: Path, kind: str, allow_code: Collection[str] = (), shape: tuple[int, ...] | None = None) -> Found:
    """The network in a file of this kind; `shape` is that of one image, where the file does not say it.

    Raises `ValueError`, which names the file, if it cannot be served.
    """
    try:
        if kind == EXPORTED:
            return _exported(path)
        return _onnx(path) if kind == ONNX else _scripted(path, allow_code, shape)
    except ValueError as error:
        raise ValueError(f"The {kind} in {path} {error}.") from error


def _exported(path: Path) -> Found:
    graph, weights, images = read_exported(path)
    if images is not None:
        graph = freed(graph, weights, images)
    return Found(Program(graph, weights), PROGRAM, graph.shape, (EXPORTED,), images)


def _onnx(path: Path) -> Found:
    module, shape, images, norms = read_onnx(path)
    if isinstance(module, Session):
        lack = "no gradient reaches its inputs, so only images that need none can be used, those of procedural and stored"
        return Found(module, BOXED, shape, (ONNX, f"run by onnxruntime as a black box ({module.reason}): {lack}"))
    folded = "its batch norms, if it had any, are folded into its convolutions, so no method can match their statistics"
    return Found(module, PROGRAM, shape, (ONNX, "run as the same operators of torch", *([] if norms else [folded])), images)


def _scripted(path: Path, allow_code: Collection[str], shape: tuple[int, ...] | None) -> Found:
    module, shape = read_scripted(path, allow_code, shape)
    if isinstance(module, Program):
        notes = (SCRIPTED, "its code is a graph of known operators, which is run instead of it")
        return Found(module, PROGRAM, shape, notes, probed=True)
    assert isinstance(module, Scripted)
    note = f"run as it is ({module.reason}): its layers are not seen, so its norms give no statistics"
    return Found(module, AS_IT_IS, shape, (SCRIPTED, note), probed=True)
