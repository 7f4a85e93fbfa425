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
    validate: str | None = None,
    accuracy: float | None = None,
    allow_code: Packages = (),
    which: str | None = None,
) -> None:
    """Make a network file of weights, an architecture and an input description, or of a whole network without code.

    Args:
        weights: A .safetensors file, or one of torch.save with a state dict anywhere in it (docs/checkpoints.md); or a whole
            network: .pt2 of torch.export, .onnx, TorchScript; or a folder of transformers or timm, or hf-hub:OWNER/NAME.
        arch: A name of this package (resnet20, ...), timm:NAME, torchvision:NAME, package.module:factory, or file.py:factory;
            left out for a whole network or a folder.
        out: The network file to write.
        inputs: CHANNELSxHEIGHTxWIDTH of one input; may be left out for networks of timm and torchvision, folders, .pt2, .onnx,
            and where one usual square size only fits the weights.
        mean: Mean of each channel, of pixels in [0, 1], which is subtracted from inputs.
        std: Standard deviation of each channel, of pixels in [0, 1], by which inputs are divided.
        classes: Number of classes; left out: the outputs of the last layer.
        options: Keyword arguments of the factory, as JSON.
        validate: Labelled data that the network was not trained on (.npz, folder, torchvision:SET:ROOT): the card gets its
            accuracy there and a few hundred numbers more, from which no image can be rebuilt.
        accuracy: In place of that, the accuracy in percent that a paper or a model card says.
        allow_code: Packages whose code may be imported and called to build the network; or its file, if that is
            TorchScript.
        which: ema or model: averaged or ordinary weights, where the file has both; or the place of one of several in it.
            Default: the averaged ones, if there are any.
    """
    spec = None
    if inputs:
        spec = InputSpec(shape=shape_of(inputs), mean=mean or (0.0,), std=std or (1.0,))
        mean = std = ()
    packed = datafree.pack(weights, arch, spec, classes, options_of(options), allow_code, which, mean=mean, std=std)
    if validate is not None or accuracy is not None:
        packed = datafree.validate(packed, validate, accuracy=accuracy)
    packed.save(out)
    for note in packed.notes:
        show(note)
    card = packed.card
    show(f"{out}: {card.architecture}, {packed.parameters:,} weights, inputs {card.inputs}, {card.classes} classes")
    if found := packed.card.validation:
        show(f"accuracy {found.accuracy:.2f} %, {'measured on' if found.images else 'as'} {found.source}")
    if taken := _taken(card.history[-1]):
        show(f"{weights}: {taken}")


def _taken(event: dict[str, Option]) -> str:
    """What was taken of the file of weights, and what was not; empty if it is a plain state dict."""
    kind, place = (event.get(name) for name in ("weights", "taken"))
    first = f"took the {kind} weights" if kind else "took the weights" if place else ""
    parts = [f"{first} under {place}" if place else first]
    words = {
        "beside": "others that fit lie under {} (--which takes them)",
        "dropped": "dropped {} from the names",
        "added": "put {} before the names",
        "left": "left out {}",
        "unread": "left objects unread of {}",
    }
    parts += [text.format(event[name]) for name, text in words.items() if name in event]
    return "; ".join(filter(None, parts))


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
