"""The function `teach`: train a teacher on labelled data."""

import contextlib
import time
from pathlib import Path
from typing import Any

from datafree.core.files import path_fingerprint, refuse_no_file
from datafree.core.runtime import Precision, Runtime
from datafree.core.spec import InputSpec, Shape
from datafree.data.labelled import Labelled, load_labelled
from datafree.engine.parts import digest, parts_of, remove_parts
from datafree.engine.progress import print_line
from datafree.engine.supervised import Training, measured_inputs, refuse_untrainable, train
from datafree.networks.building.build import build
from datafree.networks.network import Card, Network, load, read_card
from datafree.networks.outputs import TASKS, probe


def teach(
    data: str | Labelled,
    architecture: str,
    *,
    out: str | Path | None = None,
    training: Training = Training(),  # noqa: B008 - frozen
    shape: Shape | None = None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    device: str = "auto",
    precision: Precision = "auto",
    seed: int = 0,
    quiet: bool = False,
) -> Network:
    """Train a new teacher on labelled data.

    With `out` the same call again resumes an interrupted training, or returns the finished teacher.

    Args:
        data: labelled data: an `.npz`, a folder, or `torchvision:SET:ROOT:train`, as on the command line, or `Labelled`.
        architecture: a name from `ARCHITECTURES` (`resnet20`), or `timm:NAME`.
        out: network file to write; None: the network is only returned.
        training: settings of the training.
        shape: (C, H, W) that images are resized to; None: their own.
        mean: mean of each channel, of pixels in [0, 1]; empty: measured on the data.
        std: standard deviation of each channel, of pixels in [0, 1]; empty: measured on the data.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: `fp32`, `bf16` (autocast), or `auto`: bf16 on a GPU that computes in it, else fp32.
        seed: seed of all random numbers: initial weights, order of the images, augmentation.
        quiet: print no progress.

    Returns:
        The teacher with its card, in eval mode.

    Raises:
        ValueError: the data cannot be read, or have one image or class only, the architecture does not fit them, or `out`
            belongs to a training with other settings.
        FloatingPointError: the loss or the network is no longer finite.
        OSError: a file cannot be written.
        Interrupted: asked to stop (Ctrl-C, SIGTERM) with `out`; a checkpoint has been saved.
    """
    runtime = Runtime(device, precision, seed)
    labelled = load_labelled(data) if isinstance(data, str) else data
    refuse_untrainable(labelled, training)
    is_file = isinstance(data, str) and Path(data).exists()  # else a torchvision set, whose name does not tell its images
    source = path_fingerprint(Path(str(data))) if is_file else labelled.fingerprint()
    inputs = measured_inputs(labelled, shape)
    inputs = InputSpec(shape=inputs.shape, mean=mean or inputs.mean, std=std or inputs.std)
    labelled = labelled.fitted(inputs.shape, labelled.classes)
    began = time.monotonic()

    def report(epoch: int, loss: float) -> None:
        print_line(f"epoch {epoch}/{training.epochs}  loss {loss:.4f}  {time.monotonic() - began:.0f} s", quiet)

    identity = {
        "arch": architecture,
        "inputs": inputs.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "seed": seed,
        "data": source,
        "precision": runtime.precision,
        "device": runtime.device.type,
    }
    if out is not None and _is_taught(Path(out), identity):
        remove_parts(Path(out), identity)
        found = load(out)
        return Network(found.module.to(runtime.device), found.card)
    with runtime.seeded():
        module = build(architecture, inputs, labelled.classes)
        task = TASKS[probe("network", module, inputs).dim()]
        labelled.refuse_other_task(task)
        with parts_of(Path(out), identity) if out is not None else contextlib.nullcontext() as run:
            module = train(
                module, labelled, inputs, training, runtime, report, run, lambda sentence: print_line(sentence, quiet)
            )
            history = {"event": "taught", "data": Path(labelled.source).name, "epochs": training.epochs, "seed": seed}
            history["training"] = digest(identity)
            card = Card(architecture=architecture, classes=labelled.classes, task=task, inputs=inputs, history=(history,))
            network = Network(module, card)
            if run and out is not None:
                run.refuse_deleted()
                network.save(out)
    return network


def _is_taught(file: Path, identity: dict[str, Any]) -> bool:
    """Whether `file` holds the teacher that the training `identity` ends with. Raises `ValueError` if it is another file."""
    refuse_no_file(file)
    if not file.exists():
        return False
    try:
        history = read_card(file).history
    except ValueError:
        history = ()
    if not history or history[-1].get("training") != digest(identity):
        raise ValueError(
            f"{file} exists and is not the network that this line makes: data, settings, device or precision were others. "
            "Name a new file, or give the same settings."
        )
    return True
