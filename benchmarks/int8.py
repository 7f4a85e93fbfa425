"""Int8 by calibration on real images, on synthetic ones of several kinds, and on noise: accuracy on real test images.

    python benchmarks/int8.py --data FOLDER --weights FOLDER --out benchmarks/results/int8.json

FOLDER of data holds cifar10_train.npz and cifar10_test.npz, that of weights the CIFAR-10 networks of a third party. Each set
has 256 images. `real` are training images, `synthetic` the procedural images that `datafree export` makes by itself,
`deepinversion` images of 100 steps towards classes and the network's statistics, `noise` normal noise.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import datafree
from datafree.core.files import write_text
from datafree.core.runtime import Runtime
from datafree.data.sets import SetCard, TransferSet
from datafree.deploy.formats import runner
from datafree.engine.method import NoStudent, Problem
from datafree.methods.common.procedural.supply import Supply
from datafree.methods.deepinversion import DeepInversion
from datafree.networks.network import Network
from datafree.networks.teacher import Teacher
from datafree.reports import record

NETWORKS = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}
INPUTS = datafree.InputSpec(shape=(3, 32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
N = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--runtimes", nargs="+", default=["onnx", "pt2"])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    train, test = (dict(np.load(given.data / f"cifar10_{split}.npz")) for split in ("train", "test"))
    x = INPUTS.to_network(torch.from_numpy(test["images"]).permute(0, 3, 1, 2))
    labels = torch.from_numpy(test["labels"])
    rows: list[dict[str, Any]] = []
    for name in given.networks:
        network = datafree.pack(given.weights / NETWORKS[name], name, INPUTS, 10)
        with torch.no_grad():
            truth = torch.cat([network.module(part) for part in x.split(500)]).argmax(1)
        with tempfile.TemporaryDirectory() as folder:
            sets = made(network, torch.from_numpy(train["images"]).permute(0, 3, 1, 2), Path(folder))
            for runtime in given.runtimes:
                for calibration, file in sets.items():
                    out = Path(folder) / f"{runtime}-{calibration}.bin"
                    exported = datafree.export(network, runtime, out, int8=True, calibration=file)
                    run = runner(out, runtime)
                    predicted = torch.cat([run(part) for part in x.split(250)]).argmax(1)
                    assert exported.verdict is not None
                    row = {
                        "network": name,
                        "runtime": runtime,
                        "calibration": calibration,
                        "images": N,
                        "float": percent(truth == labels),
                        "int8": percent(predicted == labels),
                        "agreement": percent(predicted == truth),
                        "verdict": exported.verdict.word,
                        "found": str(exported.verdict),
                    }
                    print(row, flush=True)
                    rows.append(row)
        save(given.out, rows)


def made(network: Network, real: torch.Tensor, folder: Path) -> dict[str, Path | None]:
    """The calibration sets, by their names; None stands for the procedural images of `datafree export` itself."""
    generator = torch.Generator().manual_seed(0)

    def saved(name: str, pixels: torch.Tensor) -> Path:
        TransferSet(SetCard(inputs=INPUTS, provenance=name), (pixels,)).save(folder / f"{name}.safetensors")
        return folder / f"{name}.safetensors"

    noise = INPUTS.to_pixels(torch.randn(N, *INPUTS.shape, generator=generator))
    return {
        "real": saved("real", real[torch.randperm(len(real), generator=generator)[:N]].contiguous()),
        "synthetic": None,
        "deepinversion": saved("deepinversion", INPUTS.to_pixels(inverted(network))),
        "noise": saved("noise", noise),
    }


def inverted(network: Network) -> torch.Tensor:
    """Images of the teacher's statistics and classes, from procedural ones."""
    runtime = Runtime("cpu", "fp32", 0)
    problem = Problem(Teacher(network.module, INPUTS, runtime), NoStudent(), INPUTS, network.card.classes)
    how = {"batch": 128, "steps": 100, "lr": 0.05, "statistics": 1.0, "scale_free": True}
    method = DeepInversion(procedural=Supply(), basis="fourier", inversion=how, min_crop_area=0.3, roll=4)
    return method.start(problem, runtime).synthesize(N).x


def percent(hits: torch.Tensor) -> float:
    return round(100 * hits.float().mean().item(), 2)


def save(file: Path, rows: list[dict[str, Any]]) -> None:
    command = "python benchmarks/int8.py --data FOLDER --weights FOLDER --out benchmarks/results/int8.json"
    result = {"command": command, "machine": Runtime("cpu").machine(), "versions": record.versions()}
    write_text(file, json.dumps(result | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
