"""ONNX files: made a program where torch has their operators, else a black box that onnxruntime runs."""

import copy
import hashlib
import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datafree.networks.building.limits import FOREIGN, reason_of
from datafree.networks.outputs import ALIKE, flattened
from datafree.networks.programs.batch import freed
from datafree.networks.programs.graph import INPUT, Value
from datafree.networks.programs.onnx_builder import Builder, NotServed, Operand
from datafree.networks.programs.onnx_call import KINDS, Call
from datafree.networks.programs.onnx_operators import converted
from datafree.networks.programs.program import Program
from datafree.networks.programs.simulate import TooLarge

ANY = 13  # images for which a network that takes any number is converted: a number that no size has by chance


class Session(nn.Module):
    """A network that onnxruntime runs, without gradients. `reason` says why it is no program.

    `images` is the number that it takes at once, None for any.
    """

    def __init__(self, path: Path, images: int | None, reason: str):
        super().__init__()
        self.images, self.reason = images, reason
        self.session = _session(path)
        digest = bytearray(hashlib.sha256(path.read_bytes()).digest())
        self.register_buffer("digest", torch.frombuffer(digest, dtype=torch.uint8).clone())  # by which runs know the teacher

    def __deepcopy__(self, memo: dict[int, Any]) -> "Session":
        memo[id(self.session)] = self.session  # which cannot be copied, and never changes
        copied = Session.__new__(Session)
        copied.__dict__ = copy.deepcopy(self.__dict__, memo)
        return copied

    def forward(self, x: Tensor) -> Tensor:
        given = x.detach().float().cpu().contiguous()
        count = self.images or len(given)
        parts = [np.concatenate([part, part[:1].repeat(count - len(part), 0)]) for part in map(_numpy, given.split(count))]
        name = self.session.get_inputs()[0].name
        found = np.concatenate([self.session.run(None, {name: part})[0] for part in parts])
        return torch.from_numpy(found[: len(given)]).to(x.device)


def _numpy(x: Tensor) -> np.ndarray[Any, Any]:
    return x.numpy()  # type: ignore[no-any-return]


def _session(path: Path) -> Any:
    runtime = _package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except FOREIGN as error:
        raise ValueError(f"is not run by onnxruntime either ({reason_of(error)}); export it again") from error


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"needs the package {name}; pip install 'datafree[onnx]'") from error


def read_onnx(path: Path) -> tuple[nn.Module, tuple[int, ...], int | None, int]:
    """The network in an ONNX file, a `Program` or a `Session`; the shape of one image; the fixed number of images; its norms.

    Nothing in the file is code. Raises `ValueError`, a sentence's middle, if it cannot be served.
    """
    onnx = _package("onnx")
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except FOREIGN as error:
        raise ValueError(f"does not read as ONNX ({reason_of(error)}); export it again") from error
    tensors = _initializers(onnx, model.graph, path.parent)
    name, images, shape = _input(model.graph, tensors)
    norms = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
    try:
        program = _program(onnx, model, tensors, name, shape, images or ANY)
        if not _trains(model.graph):  # onnxruntime would take the statistics of each batch
            _refuse_other(program, path, images)
    except TooLarge:
        raise
    except ValueError as error:
        return Session(path, images, str(error)), shape, None, norms
    return program, shape, images, norms


def _program(onnx: Any, model: Any, tensors: dict[str, Tensor], name: str, shape: tuple[int, ...], images: int) -> Program:
    opset = max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=1)
    b = Builder(shape, images, tensors)
    known: dict[str, Operand | None] = {**tensors, name: Value(INPUT), "": None}
    for place, node in enumerate(model.graph.node):
        if node.domain not in ("", "ai.onnx"):
            raise NotServed(f"it uses the operator {node.domain[:40]}.{node.op_type[:40]}")
        inputs = [known.get(each) for each in node.input]
        attributes = {each.name: _attribute(onnx, each) for each in node.attribute}
        call = Call(_layer_names(node, place), node.op_type, attributes, inputs, len(node.output), opset)
        try:
            outputs = converted(b, call)
        except (TypeError, IndexError, KeyError, AttributeError, AssertionError, RuntimeError) as error:
            raise NotServed(f"it uses {node.op_type[:80]!r} in another form ({reason_of(error)})") from error
        known |= dict(zip(node.output, outputs, strict=False))
    returned = [(each.name, known.get(each.name)) for each in model.graph.output]
    found = [(key, value) for key, value in returned if value is not None]
    graph = b.graph([value for _, value in found], tuple(key for key, _ in found))
    return Program(freed(graph, b.weights, images), b.weights)


def _refuse_other(program: Program, path: Path, images: int | None) -> None:
    """Raise `NotServed` if the program's answers differ from those of onnxruntime, where it is installed."""
    try:
        box = Session(path, images, "")
    except ValueError:
        return
    x = torch.randn(2, *program.graph.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = flattened(box(x)), flattened(_first(program(x)))
    if expected.shape != found.shape or not torch.allclose(found, expected, rtol=0, atol=ALIKE * float(expected.abs().max())):
        raise NotServed("its operators in torch give other answers")


def _trains(graph: Any) -> bool:
    """Whether a network was exported in train mode."""
    return any(each.name == "training_mode" and each.i for node in graph.node for each in node.attribute)


def _first(output: Any) -> Any:
    return next(iter(output.values())) if isinstance(output, dict) else output[0] if isinstance(output, tuple) else output


def _layer_names(node: Any, place: int) -> tuple[str, ...]:
    """Names for a node's layer, the best first: that of its weight without `.weight`, that of the node, and its place."""
    of_weight = tuple(each.removesuffix(".weight") for each in node.input[1:2] if each.endswith(".weight"))
    parts = [part for part in node.name.replace("/", ".").split(".") if part]
    return (*of_weight, *([".".join(parts[:-1])[:200]] if parts[1:] else []), f"{node.op_type.lower()}_{place}")


def _attribute(onnx: Any, attribute: Any) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _tensor(onnx, value, None)
    return value if isinstance(value, int | float | bytes) else list(value)


def _input(graph: Any, tensors: dict[str, Tensor]) -> tuple[str, int | None, tuple[int, ...]]:
    given = [each for each in graph.input if each.name not in tensors]
    if len(given) != 1:
        raise ValueError(f"takes {len(given)} tensors; export a network that takes one batch of images")
    kind = given[0].type.tensor_type
    sizes = [each.dim_value for each in kind.shape.dim]
    if len(sizes) != 4 or kind.elem_type != 1 or not all(sizes[1:]):
        raise ValueError("takes no float32 tensor [B, C, H, W] of known size; export a network that takes one batch of images")
    return given[0].name, sizes[0] or None, tuple(sizes[1:])


def _initializers(onnx: Any, graph: Any, folder: Path) -> dict[str, Tensor]:
    return {each.name: _tensor(onnx, each, folder) for each in graph.initializer}


def _tensor(onnx: Any, tensor: Any, folder: Path | None) -> Tensor:
    """The numbers of a tensor, also from a file beside the network's. Raises `ValueError` for one outside of `folder`."""
    kind = KINDS.get(tensor.data_type)
    name = tensor.name[:80]
    if kind is None:
        raise ValueError(f"has a tensor {name!r} of a type that torch has not; export it in float32")
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        try:
            array = onnx.numpy_helper.to_array(tensor)
        except FOREIGN as error:
            raise ValueError(f"has a tensor {name!r} that does not read ({reason_of(error)}); export it again") from error
        return torch.from_numpy(np.array(array, dtype=np.float32 if kind == torch.bfloat16 else None)).to(kind)
    entries = {each.key: each.value for each in tensor.external_data}
    location = Path(entries.get("location", ""))
    if folder is None or location.is_absolute() or not (folder / location).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"keeps the numbers of {name!r} outside of its folder, {str(location)[:80]!r}; export it again")
    file, offset = folder / location, int(entries.get("offset", 0))
    length = math.prod(tensor.dims) * kind.itemsize
    if not file.is_file() or min(tensor.dims, default=1) < 0 or offset < 0 or offset + length > file.stat().st_size:
        raise ValueError(f"needs the file {file} for {name!r}, which is not there or is cut short; copy it too")
    if not length:
        return torch.zeros(tuple(tensor.dims), dtype=kind)
    with file.open("rb") as numbers:
        numbers.seek(offset)
        return torch.frombuffer(bytearray(numbers.read(length)), dtype=kind).reshape(tuple(tensor.dims))
