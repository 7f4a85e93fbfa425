"""Calibration images of Sony's model-compression-toolkit, which makes them from batch norm statistics, for `int8.py --mct`.

    pip install model-compression-toolkit
    python benchmarks/int8_mct.py --weights FOLDER --out FOLDER

For measurement only: nothing of this package depends on it. The settings are its defaults (500 steps of RAdam at rate 16, the
statistics of all images, a canvas 32 pixels larger); the number of images is what a CPU makes in minutes. Writes NETWORK.npz
with `images` uint8 [N, H, W, 3] and `seconds`.
"""

import argparse
import time
from pathlib import Path

import model_compression_toolkit as mct
import numpy as np
import torch
from int8 import NETWORKS, network_of
from torch import Tensor, nn

from datafree import InputSpec
from datafree.core.files import replace_atomically

IMAGES = {"resnet20": 64, "resnet56": 64, "efficientnet-lite0": 4}
# The scaling of its images, whatever that of the network is.
IMAGENET = InputSpec(shape=(3, 1, 1), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class Rescaled(nn.Module):
    """A network that takes images in ImageNet's scaling.

    Args:
        module: network, from inputs in its own scaling.
        inputs: that scaling.
    """

    def __init__(self, module: nn.Module, inputs: InputSpec):
        super().__init__()
        self.module = module
        own, given = ([torch.tensor(v).view(-1, 1, 1) for v in (each.mean, each.std)] for each in (inputs, IMAGENET))
        self.register_buffer("scale", given[1] / own[1])
        self.register_buffer("shift", (given[0] - own[0]) / own[1])

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, 3, H, W]."""
        logits: Tensor = self.module(x * self.scale + self.shift)
        return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.networks:
        file = given.out / f"{name}.npz"
        if file.exists():
            continue
        network = network_of(name, given.weights)
        torch.manual_seed(0)
        began = time.process_time()
        config = mct.data_generation.get_pytorch_data_generation_config(data_gen_batch_size=min(32, IMAGES[name]))
        made = mct.data_generation.pytorch_data_generation_experimental(
            Rescaled(network.module, network.card.inputs).eval(), IMAGES[name], network.card.inputs.shape[1], config
        )
        pixels = IMAGENET.to_pixels(torch.cat([each.view(-1, *network.card.inputs.shape).cpu() for each in made]))
        content = {"images": pixels.permute(0, 2, 3, 1).numpy(), "seconds": np.array(time.process_time() - began)}
        replace_atomically(file, lambda temporary, content=content: np.savez(temporary.open("wb"), **content))
        print(f"{name}: {len(pixels)} images in {float(content['seconds']):.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
