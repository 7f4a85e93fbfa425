"""The command `datafree export`."""

from pathlib import Path
from typing import Literal

import datafree
from datafree.cli.arguments import Packages
from datafree.core.terminal import show


def export(
    network: Path,
    *,
    to: Literal["onnx", "pt2", "executorch"],
    out: Path,
    batch: int | None = None,
    preprocess: bool = False,
    int8: bool = False,
    calibration: Path | None = None,
    allow_code: Packages = (),
) -> None:
    """Write a network as a file that runs without this package, and run it to compare.

    Args:
        network: A network file.
        to: onnx, pt2 (torch.export), or executorch (a .pte for XNNPACK).
        out: The file to write; OUT.json beside it says what was found.
        batch: Images at once that the file takes; left out: any number, for executorch one.
        preprocess: Take uint8 pixels, and scale them inside; else network units, float32.
        int8: Weights and activations in int8.
        calibration: Transfer set, .npz or folder of images to calibrate int8 on; left out: procedural images.
        allow_code: Packages whose code may be imported and called to build the network.
    """
    made = datafree.export(
        network, to, out, batch=batch, preprocess=preprocess, int8=int8, calibration=calibration, allow_code=allow_code
    )
    found = made.difference
    show(f"{out}: {to}{' in int8' * int8}, {made.bytes / 2**20:.2f} MiB")
    show(
        f"run on {found.images} synthetic images: logits differ by up to {found.largest:.2g} (largest {found.scale:.3g}), "
        f"same class for {found.agreement:.1f} %"
    )
    if made.verdict:
        show(f"calibration: {made.verdict}")
