"""Int8 by a calibration set: ONNX through onnxruntime's static quantisation, programs of torch through torchao's PT2E."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from datafree.deploy.formats import INPUT, OPERATORS, exactly, need, program_of, quiet

BATCH = 16  # images in a step of the calibration


def quantise_onnx(source: Path, target: Path, images: Tensor, batch: int | None, ranges: str = "MinMax") -> None:
    """Write the float file `source` in int8 (QDQ): weights a scale for each channel, activations a scale a tensor.

    `images` are what the file takes. `ranges` names onnxruntime's way from what was seen to a range.
    """
    tools = need("onnxruntime.quantization")

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.parts = _parts(images, batch or BATCH)

        def get_next(self) -> dict[str, Any] | None:
            part = next(self.parts, None)
            return None if part is None else {INPUT: part.numpy()}

    with quiet():
        tools.quantize_static(
            source,
            target,
            Reader(),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            calibrate_method=tools.CalibrationMethod[ranges],
        )


def quantised_program(graph: nn.Module, images: Tensor, batch: int | None, to: str) -> torch.export.ExportedProgram:
    """A program of `graph` with int8 weights and activations, for the runtime that `to` names: `pt2` or `executorch`."""
    pt2e = need(OPERATORS)
    if to == "executorch":
        tools = need("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
        quantizer = tools.XNNPACKQuantizer().set_global(tools.get_symmetric_quantization_config(is_per_channel=True))
    else:
        tools = need("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
        quantizer = tools.X86InductorQuantizer().set_global(tools.get_default_x86_inductor_quantization_config())
    with quiet(), torch.no_grad():
        prepared = pt2e.prepare_pt2e(program_of(graph, images, batch).module(), quantizer)
        for part in _parts(images, batch or BATCH):
            prepared(part)
        converted = pt2e.convert_pt2e(prepared)
    _forget_floats(converted)
    return program_of(converted, images, batch)


def _forget_floats(converted: fx.GraphModule) -> None:
    """Delete the weights of which only an int8 copy is used, which would stay in the file."""
    used = {str(node.target) for node in converted.graph.nodes if node.op == "get_attr"}
    for name in {name for name, _ in converted.named_parameters()} - used:
        owner, _, leaf = name.rpartition(".")
        delattr(converted.get_submodule(owner), leaf)


def _parts(images: Tensor, batch: int) -> Iterator[Tensor]:
    """Batches of exactly `batch` images; the last one begins again from the front where images run out."""
    for at in range(0, len(images), batch):
        yield exactly(images.roll(-at, 0), batch)
