"""The command `datafree inspect`."""

import json
from pathlib import Path

import datafree
from datafree.cli.arguments import AsJson, Packages
from datafree.core.terminal import show


def inspect(file: Path, *, preview: Path | None = None, allow_code: Packages = (), as_json: AsJson = False) -> None:
    """Show a network file (card, weights, multiply-adds, size, latency) or a transfer set (images, classes, entropy).

    Args:
        file: A network file, a whole network (.pt2, .onnx, TorchScript) or a transfer set; for a set in shards their common
            name.
        preview: PNG to write with some images of the set; left out: beside the set, as NAME.preview.png.
        allow_code: Packages whose code may be imported and called to build the network.
        as_json: Print JSON.
    """
    lines = datafree.inspect(file, preview=preview, allow_code=allow_code)
    if as_json:
        show(json.dumps(lines | {"card": json.loads(lines["card"])}))
        return
    show(*lines.pop("card").split("\n"))
    width = max(map(len, lines)) + 2
    for name, text in lines.items():
        show(f"{name:<{width}} {text}")
