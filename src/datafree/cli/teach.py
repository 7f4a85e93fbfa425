"""`datafree teach`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import datafree
from datafree.cli.arguments import EvalData, Numbers, shape_of
from datafree.core.runtime import Precision
from datafree.engine.supervised import Training
from datafree.reports.metrics import format_score


def teach(
    data: str,
    *,
    arch: str,
    out: Path,
    training: Annotated[Training, Parameter(name="*")] = Training(),  # noqa: B008 - frozen
    inputs: str | None = None,
    mean: Numbers = (),
    std: Numbers = (),
    eval_data: EvalData = None,
    device: str = "auto",
    precision: Precision = "auto",
    seed: int = 0,
) -> None:
    """Train a teacher on labelled data; the same line again resumes.

    Parameters
    ----------
    data
        An .npz (images; labels, one an image or one a pixel), a folder with one folder a class, or with images and masks,
        or torchvision:SET:ROOT:train.
    arch
        The architecture: a name of ours, or timm:NAME.
    out
        The network file to write.
    inputs
        CHANNELSxHEIGHTxWIDTH to resize images to; left out: as they are.
    mean
        Mean of each channel in [0, 1] pixels, taken off before the network; left out: measured on the data.
    std
        Standard deviation of each channel in [0, 1] pixels, divided by; left out: measured on the data.
    eval_data
        Labelled data to report the accuracy on at the end.
    device
        auto, cpu, cuda, cuda:1, ...
    precision
        fp32, or bf16 autocast; auto: bf16 on a GPU that has it, else fp32.
    seed
        Seed of the initial weights and of the order of images.
    """
    network = datafree.teach(
        data, arch, out=out, training=training, shape=shape_of(inputs) if inputs else None, mean=mean, std=std, device=device,
        precision=precision, seed=seed,
    )  # fmt: skip
    graded = f", {format_score(datafree.evaluate(network, eval_data, device=device))}" if eval_data else ""
    print(f"{out}: {arch}, {network.parameters:,} weights{graded}")
