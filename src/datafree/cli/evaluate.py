"""The command `datafree evaluate`."""

import json
from dataclasses import asdict
from pathlib import Path

import datafree
from datafree.cli.arguments import AsJson, Packages
from datafree.core.terminal import show
from datafree.reports.metrics import format_score


def evaluate(
    network: Path,
    *,
    data: str,
    against: Path | None = None,
    device: str = "auto",
    allow_code: Packages = (),
    as_json: AsJson = False,
) -> None:
    """Accuracy of a network on labelled data, or mIoU if each pixel has a label, and agreement with another network.

    Args:
        network: A network file, or a whole network: .pt2 of torch.export, .onnx, TorchScript.
        data: An .npz (images; labels, one an image or a pixel), a folder with one folder a class, a folder with images
            and masks, or torchvision:SET:ROOT.
        against: Another network file, to report how often both predict the same class.
        device: auto, cpu, cuda, cuda:1, ...
        allow_code: Packages whose code may be imported and called to build the networks.
        as_json: Print JSON.
    """
    score = datafree.evaluate(network, data, against=against, device=device, allow_code=allow_code)
    if as_json:
        show(json.dumps(asdict(score) | {"each": score.rounded()}))
        return
    show(f"{format_score(score)} on {score.images:,} images")
    names = score.names or tuple(map(str, range(len(score.each))))
    for name, value in zip(names, score.each, strict=True):
        show(f"  {name:<16} {value:6.2f} %")
    if score.agreement is not None:
        show(f"agreement {score.agreement:.2f} % with {against}")
    if score.right_apart is not None and score.other_right_apart is not None:
        show(f"where they differ: right on {score.right_apart:.2f} %, {against} on {score.other_right_apart:.2f} %")
