"""The command `datafree pack`."""

import json
from pathlib import Path

import datafree
from datafree.cli.arguments import Numbers, Packages, shape_of
from datafree.core.settings import MOST_SEEN, Option, first_line
from datafree.core.spec import InputSpec
from datafree.core.terminal import show


def pack(
    weights: Path,
    *,
    arch: str | None = None,
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
        weights: A .safetensors file, or a .pt/.pth/.th state dict (also nested under state_dict or model); or a
            folder of transformers, timm or datafree push, or hf-hub:OWNER/NAME.
        arch: A name of this package (resnet20, ...), timm:NAME, torchvision:NAME, package.module:factory, or file.py:factory;
            left out for a folder.
        out: The network file to write.
        inputs: CHANNELSxHEIGHTxWIDTH of one input; may be left out for networks of timm and torchvision, and folders.
        mean: Mean of each channel, of pixels in [0, 1], which is subtracted from inputs.
        std: Standard deviation of each channel, of pixels in [0, 1], by which inputs are divided.
        classes: Number of classes; may be left out for networks of timm and torchvision, and folders.
        options: Keyword arguments of the factory, as JSON.
        allow_code: Packages whose code may be imported and called to build the network.
    """
    spec = None
    if inputs:
        spec = InputSpec(shape=shape_of(inputs), mean=mean or (0.0,), std=std or (1.0,))
    elif mean or std:
        raise ValueError("--mean or --std is given without the shape of inputs; pass --inputs CHANNELSxHEIGHTxWIDTH too.")
    packed = datafree.pack(weights, arch, spec, classes, options_of(options), allow_code)
    packed.save(out)
    card = packed.card
    show(f"{out}: {card.architecture}, {packed.parameters:,} weights, inputs {card.inputs}, {card.classes} classes")


def options_of(text: str) -> dict[str, Option]:
    """The JSON object in `text`. Raises `ValueError`, which names --options, for any other text."""
    seen = text if len(text) <= MOST_SEEN else f"{text[:MOST_SEEN]}..."
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--options {seen!r} is not JSON ({first_line(error)}); write it as '{{\"width\": 16}}'.") from error
    simple = isinstance(found, dict) and all(
        value is None or isinstance(value, bool | int | float | str) for value in found.values()
    )
    if not simple:
        raise ValueError(
            f"--options {seen!r} is not an object of numbers, texts, true, false and null; write it as '{{\"width\": 16}}'."
        )
    return found  # type: ignore[no-any-return]
