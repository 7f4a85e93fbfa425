"""The command `datafree teach`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import datafree
from datafree.cli.arguments import EvalData, Numbers, shape_of
from datafree.core.runtime import Precision
from datafree.core.terminal import show
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
    """Train a teacher on labelled data; the same command resumes.

    Args:
        data: An .npz (images; labels, one an image or a pixel), a folder with one folder a class, a folder with images
            and masks, or torchvision:SET:ROOT:train.
        arch: The architecture: a name of this package (resnet20, ...), or timm:NAME.
        out: The network file to write.
        inputs: CHANNELSxHEIGHTxWIDTH that images are resized to; left out: their own.
        mean: Mean of each channel, of pixels in [0, 1], which is subtracted from inputs; left out: measured on the data.
        std: Standard deviation of each channel, of pixels in [0, 1], by which inputs are divided; left out: measured.
        eval_data: Labelled data to report the accuracy or mIoU on at the end; the card of a classifier keeps what was found.
        device: auto, cpu, cuda, cuda:1, ...
        precision: fp32, or bf16 autocast; auto: bf16 on a GPU that computes in it, else fp32.
        seed: Seed of all random numbers: initial weights, order of the images, augmentation.
    """
    network = datafree.teach(
        data, arch, out=out, training=training, shape=shape_of(inputs) if inputs else None, mean=mean, std=std, device=device,
        precision=precision, seed=seed,
    )  # fmt: skip
    score = ""
    if eval_data:
        score = f", {format_score(datafree.evaluate(network, eval_data, device=device))}"
        if network.card.task == "classification":
            datafree.validate(network, eval_data, device=device).save(out)
    show(f"{out}: {arch}, {network.parameters:,} weights{score}")
