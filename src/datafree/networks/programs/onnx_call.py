"""A node of an ONNX graph, and the types of its numbers."""

from dataclasses import dataclass
from typing import Any

import torch

from datafree.networks.programs.onnx_builder import Builder, Operand

# As ONNX numbers the types of numbers.
KINDS = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One node of an ONNX graph: names that its layer may have, its attributes, its inputs and how many outputs it has."""

    names: tuple[str, ...]
    operator: str
    attributes: dict[str, Any]
    inputs: list[Operand | None]
    outputs: int
    opset: int

    def __getitem__(self, name: str) -> Any:
        return self.attributes.get(name)

    def input(self, place: int) -> Any:
        """The input at `place`, None if it is left out."""
        return self.inputs[place] if len(self.inputs) > place else None


def axes_of(b: Builder, call: Call, place: int = 1) -> list[int]:
    """The axes that a node names, in an attribute or in the input at `place`."""
    return [int(each) for each in (call["axes"] or b.numbers(call.input(place)))]
