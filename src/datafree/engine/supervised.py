"""Training of a teacher on labelled data: the settings, and the loop over epochs."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from datafree.core.modes import fastest_layout
from datafree.core.runtime import Runtime
from datafree.core.settings import Settings
from datafree.core.spec import InputSpec
from datafree.core.state import Stateful
from datafree.data.augment import random_crop, random_flip, random_part
from datafree.data.labelled import Labelled
from datafree.engine.alarm import diverges, refuse_non_finite
from datafree.engine.folder import RunDir
from datafree.engine.interrupts import Interrupted, stoppable

CONVERTED = 2**22  # values that are converted together, 64 MB of them
# What to do where a number is not finite.
ADVICE = "name a new file with --out and lower --lr, or use --precision fp32."


class Training(Settings):
    """How a teacher is trained on labels: SGD with Nesterov momentum, a falling learning rate, crop and flip."""

    epochs: PositiveInt = 20
    """Passes over the data."""
    batch: PositiveInt = 128
    """Images in a step."""
    lr: PositiveFloat = 0.05
    """Largest learning rate of the schedule."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: NonNegativeFloat = 5e-4
    """L2 penalty on the weights."""
    schedule: Literal["cosine", "one-cycle"] = "cosine"
    """cosine: falls from the start; one-cycle: rises over the first 30 % of the steps, then falls."""
    crop: NonNegativeInt | None = None
    """Largest random shift, in pixels; left out: 4 for colour images, 0 for grey ones."""
    zoom: NonNegativeFloat = 1.0
    """For segmentation, in place of crop: a random part of an image is enlarged by 1 to 1 + zoom times."""
    focal: NonNegativeFloat = 0.0
    """Exponent gamma of the focal loss (arXiv 1708.02002), which gives hard pixels more weight; 0: cross-entropy."""
    flip: bool | None = None
    """Mirror half of the images left to right; left out: only colour ones, since grey ones are often digits or letters."""


def measured_inputs(data: Labelled, shape: tuple[int, int, int] | None = None) -> InputSpec:
    """Input description of `data`: `shape`, or that of the images, with each channel's mean and standard deviation."""
    images = max(1, CONVERTED // data.pixels[0].numel())
    rows = max(1, CONVERTED // (images * data.pixels[0, :, 0].numel()))
    parts = (part for some in data.pixels.split(images) for part in some.split(rows, dim=2))
    # Of whole numbers, so that the sums are exact, however they are split.
    sums = [(values.sum((0, 2, 3)), values.square_().sum((0, 2, 3))) for values in (part.double() for part in parts)]
    count = data.pixels[:, 0].numel()
    mean = torch.stack([first for first, _ in sums]).sum(0) / count
    std = (torch.stack([second for _, second in sums]).sum(0) / count - mean.square()).clamp_min(0).sqrt()
    std = std.clamp_min(0.255)  # for a constant channel 0.001 in [0, 1] pixels, since inputs are divided by it
    means, stds = ([round(value / 255, 4) for value in values.tolist()] for values in (mean, std))
    _, channels, height, width = data.pixels.shape
    if shape and shape[0] != channels:
        means, stds = [sum(means) / len(means)], [sum(stds) / len(stds)]
    return InputSpec(shape=shape or (channels, height, width), mean=tuple(means), std=tuple(stds))


def train(
    network: nn.Module,
    data: Labelled,
    inputs: InputSpec,
    training: Training,
    runtime: Runtime,
    report: Callable[[int, float], None] = lambda epoch, loss: None,
    run: RunDir | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> nn.Module:
    """Train `network` in place by cross-entropy or focal loss, and return it in eval mode.

    `report(epoch, mean loss)` is called after each epoch. With `run` the training resumes from that folder and is saved there
    after each epoch, or where saving would cost much of the time, about once a minute. Once `say` gets a sentence, if the loss
    rises far. Raises `FloatingPointError` if the loss or the network is no longer finite, which is not saved, `ValueError` as
    `refuse_untrainable` does, and with `run` `Interrupted`, after saving, if asked to stop.
    """
    refuse_untrainable(data, training)
    network = fastest_layout(network.to(runtime.device)).train()
    optimizer = torch.optim.SGD(
        network.parameters(), training.lr, training.momentum, weight_decay=training.weight_decay, nesterov=training.momentum > 0
    )
    pixels, labels = data.pixels.to(runtime.device), data.labels.to(runtime.device)
    steps = -(-len(pixels) // training.batch) * training.epochs
    schedule: torch.optim.lr_scheduler.LRScheduler
    if training.schedule == "one-cycle":
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.lr, total_steps=steps, cycle_momentum=False)
    else:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    parts: dict[str, Stateful] = {"network": network, "optimizer": optimizer, "schedule": schedule, "runtime": runtime}
    first = run.restore(parts)[0] if run else 0
    guess = best = math.log(data.classes)  # the loss of a network that knows nothing
    warned = False
    with stoppable() if run else contextlib.nullcontext() as stop:
        for epoch in range(first, training.epochs):
            for rows in _shuffled(len(pixels), training.batch, runtime):
                x, y = _augmented(inputs.to_network(pixels[rows]), labels[rows], training, runtime)
                with runtime.autocast():
                    logits = network(x)
                loss = focal_loss(logits, y, training.focal, data.void)
                runtime.minimize(loss, optimizer)
                runtime.note("loss", loss)
                schedule.step()
            value = runtime.drain()["loss"]
            refuse_non_finite({"loss": value, "largest value of the network": _largest(network)}, epoch + 1, "epoch", ADVICE)
            if not warned and diverges(value, best, guess):
                warned = True
                say(
                    f"Epoch {epoch + 1}: the loss is {value:.3g}, {value / best:.0f} times its best or that of a guess, so the "
                    "network seems to diverge; if it stays so, use a lower --lr."
                )
            best = min(best, value)
            stopping = stop is not None and stop.is_set()
            if run and (stopping or run.due):
                run.save(epoch + 1, {}, parts)
            report(epoch + 1, value)
            if run and stopping and epoch + 1 < training.epochs:
                raise Interrupted(f"Stopped after epoch {epoch + 1}, saved in {run.path}; the same command resumes.")
    return network.eval()


def refuse_untrainable(data: Labelled, training: Training) -> None:
    """Raise `ValueError` if `data` have only one class, or a step only one image."""
    if data.classes < 2:
        raise ValueError(
            f"{data.source} has one class only, so there is nothing to tell apart; give data of two classes at least."
        )
    if len(data.pixels) < 2 or training.batch < 2:
        found = f"{data.source} has one image only" if len(data.pixels) < 2 else "--batch 1 takes one image a step"
        raise ValueError(f"{found}, on which batch norm cannot train; give two at least.")


@torch.no_grad()
def _largest(network: nn.Module) -> float:
    """The largest magnitude of a weight or a statistic, which is not finite if one of them is not."""
    values = [*network.parameters()]
    for layer in network.modules():
        if isinstance(layer, _NormBase) and layer.running_mean is not None and layer.running_var is not None:
            values += [layer.running_mean, layer.running_var]  # type: ignore[list-item]
    return torch.stack([value.abs().amax().float() for value in values]).amax().item()


def _shuffled(size: int, batch: int, runtime: Runtime) -> Iterator[Tensor]:
    order = torch.randperm(size, generator=runtime.random, device=runtime.device)
    return iter(part for part in order.split(batch) if len(part) > 1)  # batch norm cannot train on one image


def _augmented(x: Tensor, y: Tensor, training: Training, runtime: Runtime) -> tuple[Tensor, Tensor]:
    """Images with their labels, augmented; images and masks change together, by zoom and flip."""
    colour = x.shape[1] == 3
    flip = colour if training.flip is None else training.flip
    if y.dim() > 1:
        return random_part(x, y, training.zoom, flip, runtime.random)
    crop = (4 if colour else 0) if training.crop is None else training.crop
    if crop:
        x = random_crop(x, crop, runtime.random)
    return (random_flip(x, runtime.random) if flip else x), y


def focal_loss(logits: Tensor, labels: Tensor, gamma: float, void: int | None = None) -> Tensor:
    """Focal loss (Lin et al., arXiv 1708.02002, eq. 4): -(1 - p)^gamma log p of the label's probability p, in fp32.

    `logits` are [B, classes, ...], `labels` [B, ...]; the mean leaves out labels `void`. With gamma 0 it is cross-entropy.
    """
    ignored = _NO_LABEL if void is None else void
    if not gamma:
        return F.cross_entropy(logits.float(), labels.long(), ignore_index=ignored)
    loss = F.cross_entropy(logits.float(), labels.long(), ignore_index=ignored, reduction="none")
    counted = (labels != ignored).to(loss.dtype)
    return ((1 - torch.exp(-loss)) ** gamma * loss * counted).sum() / counted.sum().clamp_min(1)


_NO_LABEL = -100  # the default of torch's ignore_index
