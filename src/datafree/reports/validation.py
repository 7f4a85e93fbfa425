"""Measures what a classifier does on labelled data, for its card."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.core.modes import evaluating
from datafree.core.spec import InputSpec
from datafree.data.labelled import Labelled
from datafree.networks.inside.taps import calls, layer_inputs
from datafree.networks.outputs import explained, logits_of
from datafree.networks.validation import EDGES, MOST_CLASSES, MOST_FEATURES, MOST_HISTOGRAMS, Validation

TEMPERATURES = torch.logspace(-1, 1, 81)  # tried, from 0.1 to 10


@torch.no_grad()
def validation(network: nn.Module, labelled: Labelled, inputs: InputSpec, device: torch.device, name: str) -> Validation:
    """The fingerprint of `network`, whose modes are restored, on labelled images of its input shape, called `name`."""
    with evaluating(network), explained("network", network, inputs):
        last = _last_linear(network, inputs.to_network(labelled.pixels[:1].to(device)))
        parts, features = [], []
        with layer_inputs(network, *last) as seen:
            for part in labelled.pixels.split(500):
                parts.append(_tensor(network(inputs.to_network(part.to(device)))).float().cpu())
                features += [each.detach().float().cpu() for each in seen.values() if each.dim() == 2]
        logits = torch.cat(parts)
    labels, predicted = labelled.labels.long(), logits.argmax(1)
    top = logits.softmax(1).topk(2, dim=1).values
    counts = torch.bincount(labels, minlength=labelled.classes)
    right = torch.bincount(labels[predicted == labels], minlength=labelled.classes)
    each = [100 * int(r) / int(n) if n else None for r, n in zip(right, counts, strict=True)]
    chosen = torch.bincount(predicted, minlength=logits.shape[1]) / len(predicted)
    by_class = [top[labels == k] for k in range(labelled.classes)] if labelled.classes <= MOST_HISTOGRAMS else []
    moments = _moments(torch.cat(features)) if features else ((), ())
    losses = torch.stack([F.cross_entropy(logits / t, labels) for t in TEMPERATURES])
    return Validation(
        accuracy=100 * int(right.sum()) / len(labels),
        source=name[:200],
        images=len(labels),
        each=tuple(None if value is None else round(value, 2) for value in each) if len(each) <= MOST_CLASSES else (),
        confidence=histogram(top[:, 0]),
        margin=histogram(top[:, 0] - top[:, 1]),
        confidence_each=tuple(histogram(each[:, 0]) for each in by_class),
        margin_each=tuple(histogram(each[:, 0] - each[:, 1]) for each in by_class),
        feature_mean=moments[0],
        feature_variance=moments[1],
        temperature=round(TEMPERATURES[losses.argmin()].item(), 3),
        entropy=round(torch.special.entr(chosen).sum().item() / math.log(logits.shape[1]), 4),
    )


def histogram(values: Tensor) -> tuple[float, ...]:
    """Shares of values [N] in [0, 1] between the edges, [bins]; none for no values."""
    if not len(values):
        return ()
    bins = torch.bucketize(values.clamp(0, 1), torch.tensor(EDGES))
    return tuple(round(share, 5) for share in (torch.bincount(bins, minlength=len(EDGES) + 1) / len(values)).tolist())


def _last_linear(network: nn.Module, x: Tensor) -> tuple[str, ...]:
    """Name of the linear layer that the network ends in, if it does and is small."""
    run = calls(network, x)
    fits = bool(run) and isinstance(run[-1].layer, nn.Linear) and run[-1].layer.in_features <= MOST_FEATURES
    return (run[-1].name,) if fits else ()


def _moments(features: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and variance of each column of features [N, F], to four digits."""
    found = features.mean(0), features.var(0, unbiased=False)
    mean, variance = (tuple(float(f"{value:.4g}") for value in each.tolist()) for each in found)
    return mean, variance


def _tensor(output: object) -> Tensor:
    logits = logits_of(output)
    assert isinstance(logits, Tensor)
    return logits
