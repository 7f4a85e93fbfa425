"""Losses against naive loops, for images and for maps."""

import math

import pytest
import torch
from torch import Tensor

from datafree.losses import kd, logit_gap

SHAPES = [(5, 4), (2, 4, 3, 3)]


def rows(x: Tensor) -> list[list[float]]:
    """Logits of every position as plain lists."""
    return x.movedim(1, -1).reshape(-1, x.shape[1]).tolist()


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(v / temperature) for v in row]
    return [p / sum(powers) for p in powers]


@pytest.mark.parametrize("shape", SHAPES)
def test_logit_gap_is_the_mean_absolute_difference(shape: tuple[int, ...]) -> None:
    a, b = torch.randn(shape), torch.randn(shape)
    pairs = list(zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))
    assert logit_gap(a, b).item() == pytest.approx(sum(abs(x - y) for x, y in pairs) / len(pairs), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_the_tempered_divergence(shape: tuple[int, ...], temperature: float) -> None:
    student, teacher = torch.randn(shape), torch.randn(shape)
    total = 0.0
    for s, t in zip(rows(student), rows(teacher), strict=True):
        q, p = softmax(s, temperature), softmax(t, temperature)
        total += sum(b * (math.log(b) - math.log(a)) for a, b in zip(q, p, strict=True))
    expected = temperature**2 * total / len(rows(student))
    assert kd(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-4)


def test_losses_are_fp32_whatever_comes_in() -> None:
    a, b = torch.randn(3, 4).bfloat16(), torch.randn(3, 4).bfloat16()
    assert logit_gap(a, b).dtype == kd(a, b, 2.0).dtype == torch.float32
