"""Losses against naive loops, for images and for maps."""

import math

import pytest
import torch
from torch import Tensor

from datafree.engine.look import kd
from datafree.methods.common.losses import (
    agreed_divergence,
    attention_distance,
    jensen_shannon,
    logit_gap,
    negative_entropy,
    own_cross_entropy,
    statistics_distance,
    total_variation,
)
from datafree.networks.inside.taps import NormStatistics

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


@pytest.mark.parametrize("shape", SHAPES)
def test_jensen_shannon_is_the_mean_divergence_from_the_middle(shape: tuple[int, ...]) -> None:
    one, other = 5 * torch.randn(shape), 5 * torch.randn(shape)
    total = 0.0
    for a, b in zip(rows(one), rows(other), strict=True):
        p, q = softmax(a, 3), softmax(b, 3)
        m = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
        total += sum(x * math.log(x / z) + y * math.log(y / z) for x, y, z in zip(p, q, m, strict=True)) / 2
    seen = jensen_shannon(one, other, 3).item()
    assert seen == pytest.approx(total / len(rows(one)), rel=1e-4)
    assert 0 < seen < math.log(2)
    assert jensen_shannon(one, one, 3).item() == pytest.approx(0, abs=1e-6)


def test_total_variation_is_four_norms_of_differences() -> None:
    x = torch.randn(2, 3, 4, 5)
    steps = {"right": (0, 1), "below": (1, 0), "falling": (1, 1), "rising": (1, -1)}
    expected = 0.0
    for down, across in steps.values():
        squares = 0.0
        for image in x.tolist():
            for channel in image:
                for i, j in ((i, j) for i in range(4 - down) for j in range(5) if 0 <= j + across < 5):
                    squares += (channel[i + down][j + across] - channel[i][j]) ** 2
        expected += math.sqrt(squares)
    assert total_variation(x).item() == pytest.approx(expected, rel=1e-5)


def test_statistics_distance_sums_over_layers_and_may_be_free_of_scale() -> None:
    def layer(scale: float) -> NormStatistics:
        values = [torch.tensor(v) for v in ([1.0, 2.0], [3.0, 1.0], [0.0, 0.0], [1.0, 1.0])]
        mean, variance, running_mean, running_variance = values
        return NormStatistics(scale * mean, scale**2 * variance, scale * running_mean, scale**2 * running_variance)

    means, variances = math.sqrt(1 + 4), math.sqrt(4 + 0)
    plain = statistics_distance([layer(1), layer(10)]).item()
    assert plain == pytest.approx(11 * means + 101 * variances, rel=1e-5)
    free = statistics_distance([layer(1), layer(10)], scale_free=True).item()
    assert free == pytest.approx(2 * (means + variances) / math.sqrt(2), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_agreed_divergence_counts_only_where_both_choose_alike(shape: tuple[int, ...]) -> None:
    student, teacher = torch.randn(shape), torch.randn(shape)
    student[0] = teacher[0] * 0.3  # agrees for sure
    total, agreed = 0.0, 0
    pairs = list(zip(rows(student), rows(teacher), strict=True))
    for s, t in pairs:
        if s.index(max(s)) == t.index(max(t)):
            q, p = softmax(s, 1), softmax(t, 1)
            total += sum(b * (math.log(b) - math.log(a)) for a, b in zip(q, p, strict=True))
            agreed += 1
    assert 0 < agreed < len(pairs)
    assert agreed_divergence(student, teacher).item() == pytest.approx(total / len(pairs), rel=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_own_cross_entropy_is_that_of_the_largest_class(shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape)
    expected = -sum(math.log(max(softmax(row, 1))) for row in rows(logits)) / len(rows(logits))
    assert own_cross_entropy(logits).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_negative_entropy_is_that_of_the_mean_answer(shape: tuple[int, ...]) -> None:
    logits = 3 * torch.randn(shape)
    answers = [softmax(row, 1) for row in rows(logits)]
    means = [sum(answer[c] for answer in answers) / len(answers) for c in range(4)]
    expected = sum(p * math.log(p) for p in means)
    assert negative_entropy(logits).item() == pytest.approx(expected, rel=1e-5)
    assert -math.log(4) < expected < 0


def test_negative_entropy_bears_a_class_that_never_comes() -> None:
    logits = torch.zeros(3, 4)
    logits[:, 0] = 300.0
    logits.requires_grad_()
    loss = negative_entropy(logits)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_attention_distance_compares_where_two_networks_look() -> None:
    student, teacher = torch.randn(3, 2, 4, 5), torch.randn(3, 6, 4, 5)

    def attention(image: list[list[list[float]]]) -> list[float]:
        squares = [
            sum(channel[i][j] ** 2 for channel in image) / len(image)
            for i in range(len(image[0]))
            for j in range(len(image[0][0]))
        ]
        norm = math.sqrt(sum(value**2 for value in squares))
        return [value / norm for value in squares]

    total = 0.0
    for own, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        total += sum((a - b) ** 2 for a, b in zip(attention(own), attention(theirs), strict=True))
    seen = attention_distance(student, teacher).item()
    assert seen == pytest.approx(total / (3 * 4 * 5), rel=1e-5)
    assert attention_distance(7 * student, student).item() == pytest.approx(0, abs=1e-12)
