"""The function `export`: a network as a file that runs without this package, in float or int8, checked by running it."""

import copy
import json
import tempfile
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from datafree.core.files import replace_atomically, sha256, write_text
from datafree.data.unlabelled import read_images
from datafree.deploy.calibration import Verdict, judge, procedural_images
from datafree.deploy.check import Difference, agreement, compare, refuse
from datafree.deploy.formats import WRITERS, Format, Graph, program_of, runner
from datafree.deploy.int8 import quantise_onnx, quantised_program
from datafree.networks.inside.folding import fold_batch_norms
from datafree.networks.network import Network
from datafree.networks.outputs import noise_for
from datafree.networks.sources import Source, as_network

CHECKED = 32  # synthetic images on which the file is run
HELD_BACK = 128  # synthetic images that int8 is judged on, and not calibrated on
CALIBRATION = 256  # images that int8 is calibrated on, at most


@dataclass(frozen=True)
class Exported:
    """What was written, and how it compares with the network."""

    path: Path
    format: str
    int8: bool
    bytes: int
    difference: Difference
    verdict: Verdict | None = None


def export(
    network: Source,
    to: Format,
    out: str | Path,
    *,
    batch: int | None = None,
    preprocess: bool = False,
    int8: bool = False,
    calibration: str | Path | None = None,
    allow_code: Collection[str] = (),
) -> Exported:
    """Write a network as a file that runs without this package, run that file, and compare.

    A record lies beside the file, as NAME.json: the difference, and for int8 the verdict on the calibration set. Float files
    whose logits differ by more than a thousandth of the largest are refused.

    Args:
        network: a `Network` or the path of a network file.
        to: `onnx`, `pt2` (torch.export), or `executorch` (a .pte for XNNPACK).
        out: file to write.
        batch: images at once that the file takes; None: any number, for `executorch` one.
        preprocess: take uint8 pixels [B, C, H, W], and scale them by mean and std inside; else network units, float32.
        int8: weights and activations in int8.
        calibration: transfer set, `.npz` or folder of images that int8 is calibrated on; None: procedural images.
        allow_code: packages whose code may be imported and called to build the network.

    Returns:
        What was written, and what was found.

    Raises:
        ValueError: the network cannot be exported, a package is missing, or the file does not run or computes something else.
        OSError: the file cannot be written.
    """
    source, out = as_network(network, None, allow_code), Path(out)
    batch = 1 if to == "executorch" and batch is None else batch
    folded = fold_batch_norms(copy.deepcopy(source.module).eval(), noise_for(source.module, source.card.inputs))
    graph = Graph(folded, source.card.inputs, preprocess).eval()
    made = procedural_images(source, HELD_BACK if int8 else CHECKED, seed=1)
    held = _fed(made, source, preprocess)
    verdict, seen = None, held
    if int8:
        images = _calibration(source, calibration)
        verdict, seen = judge(source.module, source.card.inputs, images), _fed(images, source, preprocess)

    def write(path: Path) -> None:
        nonlocal verdict
        if int8:
            _write_int8(graph, to, path, seen, batch)
        else:
            WRITERS[to](program_of(graph, seen, batch), path)
        found.append(compare(graph, path, to, held, batch))
        if not int8:
            refuse(found[-1], to)

    found: list[Difference] = []
    replace_atomically(out, write, parents=True)
    if verdict is not None:
        verdict = Verdict(**{**asdict(verdict), "loss": 100 - agreement(graph, runner(out, to), held, batch or 1)})
    exported = Exported(out, to, int8, out.stat().st_size, found[-1], verdict)
    write_text(
        out.with_name(f"{out.name}.json"), json.dumps(_record(exported, source, preprocess, batch, calibration), indent=2)
    )
    return exported


def _calibration(network: Network, path: str | Path | None) -> Tensor:
    """Images to calibrate on, in network units."""
    if path is None:
        return procedural_images(network, CALIBRATION)
    found = read_images(path, network.card.inputs)
    rows = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[:CALIBRATION]
    return network.card.inputs.to_network(found.take(rows))


def _fed(x: Tensor, network: Network, preprocess: bool) -> Tensor:
    """Images in network units as the exported file takes them."""
    return network.card.inputs.to_pixels(x) if preprocess else x


def _write_int8(graph: nn.Module, to: str, path: Path, seen: Tensor, batch: int | None) -> None:
    if to != "onnx":
        WRITERS[to](quantised_program(graph, seen, batch, to), path)
        return
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "float.onnx"
        WRITERS[to](program_of(graph, seen, batch), whole)
        quantise_onnx(whole, path, seen, batch)


def _record(exported: Exported, source: Network, preprocess: bool, batch: int | None, calibration: object) -> dict[str, object]:
    return {
        "format": exported.format,
        "sha256": sha256(exported.path),
        "inputs": source.card.inputs.model_dump(mode="json"),
        "takes": "uint8 pixels" if preprocess else "network units, float32",
        "batch": batch or "any",
        "int8": exported.int8,
        "calibration": (str(calibration or "procedural images") if exported.int8 else None),
        "verdict": {"word": exported.verdict.word, **asdict(exported.verdict)} if exported.verdict else None,
        "difference": asdict(exported.difference),
    }
