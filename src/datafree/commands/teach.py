"""`datafree teach`."""

import shutil
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datafree import teaching, verbs
from datafree.answers import TASKS, probe
from datafree.architectures import build
from datafree.commands.arguments import EvalData, Numbers, shape_of, words
from datafree.data import load_labelled
from datafree.network import Card, Network, parameters
from datafree.record import path_fingerprint
from datafree.rundir import RunDir
from datafree.runtime import Precision, Runtime
from datafree.spec import InputSpec
from datafree.teaching import Lesson


def teach(
    data: str,
    *,
    arch: str,
    out: Path,
    lesson: Annotated[Lesson, Parameter(name="*")] = Lesson(),  # noqa: B008 - frozen
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
    runtime = Runtime(device, precision, seed)
    labelled = load_labelled(data)
    spec = teaching.describe(labelled, shape_of(inputs) if inputs else None)
    spec = InputSpec(shape=spec.shape, mean=mean or spec.mean, std=std or spec.std)
    labelled = labelled.fitted(spec.shape, labelled.classes)
    began = time.monotonic()

    def tell(epoch: int, loss: float) -> None:
        print(f"epoch {epoch}/{lesson.epochs}  loss {loss:.4f}  {time.monotonic() - began:.0f} s", flush=True)

    identity = {"arch": arch, "inputs": spec.model_dump(mode="json"), "lesson": lesson.model_dump(mode="json"), "seed": seed}
    identity |= {"data": path_fingerprint(Path(data)), "precision": runtime.precision, "device": runtime.device.type}
    out.parent.mkdir(parents=True, exist_ok=True)
    with runtime.seeded(), RunDir(out.with_name(f"{out.name}.parts"), identity) as run:
        run.write({"status": "running"})
        module = teaching.teach(build(arch, spec, labelled.classes), labelled, spec, lesson, runtime, tell, run)
    history = {"event": "taught", "data": Path(data).name, "epochs": lesson.epochs, "seed": seed}
    task = TASKS[probe("network", module, spec).dim()]
    card = Card(architecture=arch, classes=labelled.classes, task=task, inputs=spec, history=(history,))
    Network(module, card).save(out)
    shutil.rmtree(run.path)
    graded = f", {words(verbs.evaluate(out, eval_data, device=device))}" if eval_data else ""
    print(f"{out}: {arch}, {parameters(module):,} weights{graded}")
