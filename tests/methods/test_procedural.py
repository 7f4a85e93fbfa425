"""Procedural images: what is drawn, and what is kept of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import INPUTS, network
from torch import Tensor, nn

from datafree import Plan, Procedural, Recipe, distill, synthesize
from datafree.core.runtime import Runtime
from datafree.engine.method import Problem
from datafree.methods.common.procedural import supply as supplies
from datafree.methods.common.procedural.fields import power_law
from datafree.methods.common.procedural.leaves import LEAVES, _painted, radii
from datafree.methods.common.procedural.pictures import FAMILIES, draw, outlines
from datafree.methods.common.procedural.supply import Tally
from datafree.methods.procedural import ProceduralSynthesizer
from datafree.networks.teacher import Teacher


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 8, 8), (5, 9, 17), (3, 70, 40)])
def test_pictures_are_seeded_pixels_of_any_shape_no_two_alike(family: str, shape: tuple[int, int, int]) -> None:
    one, two, other = (draw(40, (family,), shape, Runtime("cpu", seed=seed)) for seed in (0, 0, 1))
    assert one.shape == (40, *shape)
    assert one.dtype == torch.float32
    assert 0 <= one.min() < one.max() <= 1
    assert torch.equal(one, two)
    assert len(torch.cat([one, other]).unique(dim=0)) == 80


@pytest.mark.parametrize("family", FAMILIES)
def test_hardly_a_picture_is_one_tone(family: str) -> None:
    x = draw(500, (family,), (3, 32, 32), Runtime("cpu"))
    assert (x.flatten(1).std(1) < 0.05).float().mean() < 0.01


def test_pictures_are_in_colour_and_grey_whole_and_on_black() -> None:
    x = draw(600, tuple(FAMILIES), (3, 32, 32), Runtime("cpu"))
    saturation = (x - x.mean(1, keepdim=True)).abs().mean((1, 2, 3))
    assert 0.25 < (saturation < 1e-6).float().mean() < 0.35
    assert (saturation > 0.1).float().mean() > 0.1
    black = (x.sum(1) == 0).float().mean((1, 2))
    assert 0.35 < (black > 0.2).float().mean() < 0.6
    assert (black < 0.05).float().mean() > 0.3


@pytest.mark.parametrize("width", [1, 8, 9])
def test_so_many_pictures_are_symmetric(width: int) -> None:
    def symmetric(share: float) -> float:
        x = draw(400, tuple(FAMILIES), (2, 8, width), Runtime("cpu"), share)
        return (x == x.flip(3)).flatten(1).all(1).float().mean().item()

    assert symmetric(1.0) == 1
    assert width == 1 or (symmetric(0.0) < 0.1 and symmetric(0.3) == pytest.approx(0.3, abs=0.1))


def test_families_have_equal_parts_and_differ() -> None:
    """By the differences of neighbours: none within a leaf, few kinds within a program, and jumps only between leaves."""

    def measures(family: str) -> tuple[float, float]:
        x = FAMILIES[family](100, (1, 32, 32), Runtime("cpu"))
        step = (x[..., 1:] - x[..., :-1]).flatten(1)
        flat = (step.abs() < 1e-6).float().mean().item()
        kurtosis = (step**4).mean(1) / step.square().mean(1) ** 2
        return flat, kurtosis.median().item()

    found = {name: measures(name) for name in FAMILIES}
    assert found["leaves"][0] > 0.5
    assert max(found[name][0] for name in ("textured", "clouds", "cppn")) < 0.01
    assert found["clouds"][1] == pytest.approx(3, abs=0.5), "a Gaussian field"
    assert found["textured"][1] > 4.5
    assert found["cppn"][1] < found["textured"][1]

    whole = draw(40, ("leaves", "clouds"), (1, 32, 32), Runtime("cpu"))
    flat = ((whole[..., 1:] - whole[..., :-1]).abs() < 1e-6) & (whole[..., 1:] > 0)
    assert 15 <= (flat.float().mean((1, 2, 3)) > 0.1).sum() <= 20


@pytest.mark.parametrize("exponent", [0.5, 1.5, 2.5])
def test_a_fields_spectrum_falls_with_its_exponent(exponent: float) -> None:
    x = power_law(400, 1, (64, 64), Runtime("cpu"), (exponent, exponent))
    assert torch.allclose(x.mean((1, 2, 3)), torch.zeros(400), atol=1e-4)
    assert torch.allclose(x.std((1, 2, 3)), torch.ones(400), atol=1e-3)
    power = torch.fft.rfft2(x).abs().square().mean((0, 1))
    frequency = torch.fft.fftfreq(64, 1 / 64)[:, None].square() + torch.fft.rfftfreq(64, 1 / 64).square()
    ring = (frequency > 4**2) & (frequency < 28**2)
    design = torch.stack([frequency[ring].sqrt().log(), torch.ones(int(ring.sum()))], dim=1)
    slope = torch.linalg.lstsq(design, power[ring].log()[:, None]).solution[0, 0].item()
    assert slope == pytest.approx(-2 * exponent, abs=0.15)


def test_radii_have_the_density_of_dead_leaves() -> None:
    found = radii(torch.full((100, 1), 0.05), 1000, Runtime("cpu"))
    assert 0.05 <= found.min() < found.max() <= 1
    whole = 0.05**-2 - 1
    for r in (0.1, 0.2, 0.5):  # the integral of r^-3
        assert (found > r).float().mean().item() == pytest.approx((r**-2 - 1) / whole, rel=0.1)


def test_later_leaves_cover_earlier_ones_as_in_a_naive_loop() -> None:
    size, generator = 6, torch.Generator().manual_seed(0)
    u, v = ([torch.randn(2, LEAVES, size, generator=generator) for _ in range(2)] for _ in range(2))
    inside: list[Callable[[float, float], bool]] = [
        lambda a, b: a * a + b * b < 1,
        lambda a, b: abs(a) < 1 and abs(b) < 1,
        lambda a, b: b > -0.5 and b < 1 - 3**0.5 * abs(a),  # equilateral, in the unit circle
    ]
    expected = torch.zeros(2, size, size, dtype=torch.int64)
    for image in range(2):
        for row in range(size):
            for column in range(size):
                for leaf in range(LEAVES):
                    a, b = ((rows[image, leaf, row] + columns[image, leaf, column]).item() for rows, columns in (u, v))
                    if inside[leaf % 3](a, b):
                        expected[image, row, column] = leaf + 1
    assert torch.equal(_painted((u[0], u[1]), (v[0], v[1])), expected)


def test_outlines_leave_a_part_of_each_image() -> None:
    lit = outlines(500, (32, 24), Runtime("cpu")).mean((1, 2, 3))
    assert 0.02 < lit.min() < 0.15
    assert 0.6 < lit.max() < 0.9


def test_what_is_kept_is_what_a_naive_greedy_choice_keeps() -> None:
    generator = torch.Generator().manual_seed(0)
    tally, counts = Tally(4, torch.device("cpu")), [0] * 4
    for _ in range(5):
        classes = torch.multinomial(torch.tensor([0.8, 0.12, 0.08, 0.0]), 40, replacement=True, generator=generator)
        left, expected = list(range(40)), []
        for _ in range(10):
            best = min(left, key=lambda row: (counts[classes[row]], row))
            counts[classes[best]] += 1
            left.remove(best)
            expected.append(best)
        assert tally.choose(classes, 10).tolist() == sorted(expected)
        assert tally.counts.tolist() == counts


class Narrow(nn.Module):
    """A teacher that puts nine images of ten in class 0, by their mean; it takes no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            mean = x.mean((1, 2, 3))
            rest = ((mean * 1e4).long() % 9 + 1).clamp(1, 9)
            return 10 * nn.functional.one_hot(torch.where((mean * 1e3).long() % 10 > 0, 0, rest), 10).float()


def started(settings: Procedural, teacher: nn.Module, task: str = "classification") -> ProceduralSynthesizer:
    runtime = Runtime("cpu")
    problem = Problem(Teacher(teacher, INPUTS, runtime), network(2).module, INPUTS, 10, task)
    return settings.start(problem, runtime)


def entropy_of(x: Tensor) -> float:
    tally = Tally(10, x.device)
    tally.choose(Narrow()(x).argmax(1), len(x))
    return tally.entropy().item()


def test_few_large_images_are_drawn_together(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Counting(Narrow):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(len(x))
            return super().forward(x)

    monkeypatch.setattr(supplies, "TOGETHER", 100 * INPUTS.values)
    made = started(Procedural(supply={"candidates": 16}), Counting())
    asked.clear()
    assert len(made.synthesize(20).x) == 20
    assert (sum(asked), max(asked)) == (320, 96)


def test_what_is_kept_is_much_more_even_than_the_supply() -> None:
    supply, kept = (started(Procedural(supply={"candidates": many}), Narrow()).synthesize(400).x for many in (1, 10))
    assert entropy_of(supply) < 0.5
    assert entropy_of(kept) > 0.95


def test_the_log_says_how_even_the_classes_are() -> None:
    made = started(Procedural(supply={"candidates": 1}), Narrow())
    x = made.synthesize(300).x
    noted = made.runtime.drain()
    counts = Narrow()(x).argmax(1).bincount(minlength=10)
    assert noted["class_entropy"] == pytest.approx(entropy_of(x), abs=1e-5)
    assert noted["largest_class"] == pytest.approx(counts.max().item() / 300)


def test_one_class_only_is_an_entropy_of_nil_and_not_a_nan() -> None:
    tally = Tally(10, torch.device("cpu"))
    tally.choose(torch.zeros(8, dtype=torch.int64), 4)
    assert tally.entropy() == 0
    assert tally.largest() == 1


def test_the_counts_survive_a_restart() -> None:
    unbroken, broken, resumed = (started(Procedural(), Narrow()) for _ in range(3))
    for made in (unbroken, broken):
        made.synthesize(50)
    for name, part in resumed.state().items():
        part.load_state_dict(broken.state()[name].state_dict())
    resumed.runtime.load_state_dict(broken.runtime.state_dict())
    assert torch.equal(resumed.synthesize(50).x, unbroken.synthesize(50).x)
    assert resumed.supplier.tally
    assert resumed.supplier.tally.counts.sum() == 100


def test_a_teacher_that_only_answers_is_enough(tmp_path: Path) -> None:
    plan = Plan(rounds=2, steps=1, batch=8, eval_every=0, grid_every=0)
    distill(Narrow(), network(2).module, inputs=INPUTS, recipe=Recipe(Procedural(), plan, "test"), quiet=True, device="cpu")
    images = synthesize(network(1), Procedural(), 10, batch=4, quiet=True, device="cpu")
    assert len(images) == 10
    assert images.card.provenance == "none"


def test_segmentation_keeps_what_it_draws_and_asks_nothing() -> None:
    made = started(Procedural(), network(1).module, "segmentation")
    before = made.runtime.counters.teacher_queries
    assert made.synthesize(9).x.shape == (9, *INPUTS.shape)
    assert made.runtime.counters.teacher_queries == before
    assert not made.state()


def test_the_teacher_is_asked_about_every_candidate_once() -> None:
    made = started(Procedural(supply={"candidates": 3, "batch": 4}), network(1).module)
    before = made.runtime.counters.teacher_queries
    made.synthesize(10)
    assert made.runtime.counters.teacher_queries == before + 30
