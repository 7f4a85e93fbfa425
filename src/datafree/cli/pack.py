"""The command `datafree pack`."""

import json
from pathlib import Path

import datafree
from datafree.cli.arguments import Numbers, Packages, shape_of
from datafree.core.spec import InputSpec
from datafree.core.terminal import show


def pack(
    weights: Path,
    *,
    arch: str,
    out: Path,
    inputs: str | None = None,
    mean: Numbers = (),
    std: Numbers = (),
    classes: int | None = None,
    options: str = "{}",
    allow_code: Packages = (),
) -> None:
    """Make a network file of weights, an architecture and an input description.

    Args:
        weights: A .safetensors file, or a .pt/.pth/.th state dict (also nested under state_dict or model).
        arch: A name of this package (resnet20, ...), timm:NAME, or package.module:factory.
        out: The network file to write.
        inputs: CHANNELSxHEIGHTxWIDTH of one input; may be left out for timm's networks.
        mean: Mean of each channel, of pixels in [0, 1], which is subtracted from inputs.
        std: Standard deviation of each channel, of pixels in [0, 1], by which inputs are divided.
        classes: Number of classes; may be left out for timm's networks.
        options: Keyword arguments of the factory, as JSON.
        allow_code: Packages whose code may be imported and called to build the network.
    """
    spec = None
    if inputs:
        spec = InputSpec(shape=shape_of(inputs), mean=mean or (0.0,), std=std or (1.0,))
    elif mean or std:
        raise ValueError("--mean or --std is given without the shape of inputs; pass --inputs CHANNELSxHEIGHTxWIDTH too.")
    try:
        keywords = json.loads(options)
    except json.JSONDecodeError as error:
        raise ValueError(f"--options {options!r} is not JSON ({error}); write it as '{{\"width\": 16}}'.") from error
    packed = datafree.pack(weights, arch, spec, classes, keywords, allow_code)
    packed.save(out)
    show(f"{out}: {arch}, {packed.parameters:,} weights, inputs {packed.card.inputs}, {packed.card.classes} classes")
