"""Writes a network as ONNX, as a torch.export program or for ExecuTorch, and runs such files."""

import contextlib
import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datafree.core.spec import InputSpec
from datafree.networks.outputs import logits_of

Format = Literal["onnx", "pt2", "executorch"]
INPUT, OUTPUT = "images", "logits"  # names in the graph
EXTRAS = {"onnx": "onnx", "onnxruntime": "onnx", "onnxscript": "onnx", "executorch": "executorch", "torchao": "int8"}
OPERATORS = "torchao.quantization.pt2e.quantize_pt2e"  # whoever loads an int8 program must import this first
MOST_BATCH = 2**16  # images at once that a file with a free batch takes


class Graph(nn.Module):
    """What is exported: from images [B, C, H, W], in network units or with `preprocess` uint8 pixels, to logits alone."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, inputs: InputSpec, preprocess: bool = False):
        super().__init__()
        self.network, self.preprocess = network, preprocess
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (inputs.mean, inputs.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, images: Tensor) -> Tensor:
        if self.preprocess:
            images = images.float() * self.scale + self.shift
        logits = logits_of(self.network(images))
        assert isinstance(logits, Tensor)
        return logits


def need(package: str) -> Any:
    """The module `package`. Raises `ValueError`, which names the extra to install, where it is missing."""
    try:
        with quiet():
            return importlib.import_module(package)
    except ImportError as error:
        extra = EXTRAS[package.partition(".")[0]]
        raise ValueError(f"{package} is not installed; pip install 'datafree[{extra}]'.") from error


def exactly(images: Tensor, n: int) -> Tensor:
    """n of the images, from the front again where they run out; a copy, since torch would save all that a view looks at."""
    return images[torch.arange(n) % len(images)]


def program_of(graph: nn.Module, example: Tensor, batch: int | None) -> torch.export.ExportedProgram:
    """The program of `graph` for `batch` images at once, None: any number. Raises `ValueError` for what cannot be exported."""
    free = torch.export.Dim("batch", min=1, max=MOST_BATCH)
    x = exactly(example, batch or 2)  # torch takes one image for a constant
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(graph, (x,), dynamic_shapes=None if batch else ({0: free},))
    except Exception as error:  # torch raises anything here, for what a network's code does
        what = str(error).strip().splitlines()
        raise ValueError(
            f"torch.export cannot follow this network's code ({what[0][:200] if what else type(error).__name__}); "
            "give one whose forward has no branches on values."
        ) from error


def write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write `program` as one ONNX file."""
    need("onnx")
    need("onnxscript")
    with quiet():
        made = torch.onnx.export(program, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False)
        assert made is not None
        made.save(str(path))


def write_pt2(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write `program` as a torch.export file."""
    with quiet(), path.open("wb") as file:
        torch.export.save(program, file)


def write_executorch(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write `program` for ExecuTorch, with what XNNPACK can take given to it."""
    exir = need("executorch.exir")
    partition = need("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    with quiet():
        lowered = exir.to_edge_transform_and_lower(program, partitioner=[partition.XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)


WRITERS: dict[str, Callable[[torch.export.ExportedProgram, Path], None]] = {
    "onnx": write_onnx,
    "pt2": write_pt2,
    "executorch": write_executorch,
}


def runner(path: Path, to: str) -> Callable[[Tensor], Tensor]:
    """A function from images to the logits that the file gives; a file of `to` written here, for it may run its code."""
    if to == "onnx":
        options = need("onnxruntime").SessionOptions()
        options.log_severity_level = 3
        session = need("onnxruntime").InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda x: torch.from_numpy(session.run([OUTPUT], {INPUT: x.numpy()})[0])
    if to == "pt2":
        with contextlib.suppress(ValueError):
            need(OPERATORS)
        with quiet(), path.open("rb") as file:
            module = torch.export.load(file).module()
        return lambda x: module(x)  # type: ignore[no-any-return]
    method = need("executorch.runtime").Runtime.get().load_program(path).load_method("forward")
    return lambda x: method.execute((x.contiguous(),))[0].clone()  # type: ignore[no-any-return]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, the exporters' remarks on their own progress are not shown."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "root", "executorch")
    ]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
