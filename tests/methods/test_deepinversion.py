"""DeepInversion against its objective, with a teacher of real digits."""

import pytest
import torch
from helpers import network
from torch import Tensor, nn

from datafree import DeepInversion, InputSpec, Network, Plan, Recipe, distill, evaluate, synthesize
from datafree.core.runtime import Runtime
from datafree.data.augment import random_roll, random_zoom
from datafree.data.digits import digits
from datafree.engine.method import NoStudent, Problem
from datafree.methods.common.losses import jensen_shannon, statistics_distance
from datafree.methods.deepinversion import DeepInversionSynthesizer
from datafree.networks.inside.taps import norm_statistics
from datafree.networks.teacher import Teacher

FAST = DeepInversion(inversion={"batch": 50, "steps": 150, "lr": 0.1}, roll=1)


def inverter(settings: DeepInversion, teacher: Network, student: nn.Module | None = None) -> DeepInversionSynthesizer:
    runtime = Runtime("cpu")
    problem = Problem(Teacher(teacher.module, teacher.card.inputs, runtime), student or NoStudent(), teacher.card.inputs, 10)
    return settings.start(problem, runtime)


def distance(teacher: Network, x: Tensor) -> float:
    """From the statistics that the teacher's norms remember, summed over layers."""
    with norm_statistics(teacher.module) as seen, torch.no_grad():
        teacher.module(x)
    return statistics_distance(seen.values()).item()


def test_images_are_of_their_class_and_have_the_data_s_statistics(taught: Network) -> None:
    batch = inverter(FAST, taught).synthesize(50)
    assert batch.y is not None
    assert batch.y.sum(0).tolist() == [5.0] * 10
    with torch.no_grad():
        answers = taught.module(batch.x).softmax(1)
    assert (answers.argmax(1) == batch.y.argmax(1)).float().mean() > 0.95
    train, _ = digits()
    real = distance(taught, taught.card.inputs.to_network(train.pixels[:50]))
    noise = distance(taught, torch.randn_like(batch.x))
    assert distance(taught, batch.x) < real + 0.2 * (noise - real)


def test_without_the_statistics_term_they_do_not(taught: Network) -> None:
    with_, without = (inverter(FAST.replaced(inversion={"statistics": w}), taught).synthesize(50).x for w in (10, 0))
    assert distance(taught, without) > 3 * distance(taught, with_)


def test_images_can_be_kept_in_8_bits(taught: Network) -> None:
    x = inverter(FAST, taught).synthesize(20).x
    inputs = taught.card.inputs
    assert torch.allclose(inputs.to_network(inputs.to_pixels(x)), x, atol=0.51 / 255 / min(inputs.std))


def test_priors_weigh(taught: Network) -> None:
    def roughness(**changes: float) -> Tensor:
        x = inverter(FAST.replaced(**changes), taught).synthesize(50).x
        return torch.stack([(x[..., 1:] - x[..., :-1]).abs().mean(), x.abs().mean()])

    plain, smooth, small = roughness(), roughness(total_variation=1.0), roughness(l2=1.0)
    assert smooth[0] < 0.8 * plain[0]
    assert small[1] < 0.8 * plain[1]


def test_the_adaptive_term_finds_where_the_student_disagrees(taught: Network) -> None:
    student = network(5, "small-cnn-half", taught.card.inputs).module
    gaps = []
    for adaptive in (0.0, 10.0):
        settings = FAST.replaced(adaptive=adaptive, inversion={"statistics": 1.0})
        x = inverter(settings, taught, student).synthesize(50).x
        with torch.no_grad():
            gaps.append(jensen_shannon(student(x), taught.module(x), 3).item())
    assert gaps[1] > 1.1 * gaps[0]
    with pytest.raises(ValueError, match="depend on a student"):
        synthesize(taught, FAST.replaced(adaptive=1.0), 10, device="cpu")


def test_images_can_begin_as_procedural_ones(taught: Network) -> None:
    barely = FAST.replaced(inversion={"steps": 1, "lr": 1e-9}, procedural={"candidates": 1})
    made = inverter(barely, taught)
    x = made.synthesize(20).x
    again = inverter(barely, taught)
    assert again.supplier
    assert torch.allclose(x, again.supplier(20), atol=1e-6)
    assert "tally" in made.state()


def test_the_parts_that_the_teacher_sees_become_smaller_by_a_cosine(taught: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    least: list[float] = []

    def zoom(x: Tensor, smallest: float, generator: torch.Generator) -> Tensor:
        least.append(smallest)
        return x

    monkeypatch.setattr("datafree.methods.deepinversion.random_zoom", zoom)
    inverter(FAST.replaced(min_crop_area=0.2, inversion={"steps": 5}), taught).synthesize(10)
    assert least == pytest.approx([1, 0.8828, 0.6, 0.3172, 0.2], abs=1e-3)
    least.clear()
    inverter(FAST.replaced(inversion={"steps": 5}), taught).synthesize(10)
    assert not least


def test_images_hold_their_class_in_their_parts(taught: Network) -> None:
    """What the curriculum is for: the teacher sees the class in half of an image too."""

    def right(min_crop_area: float) -> float:
        batch = inverter(FAST.replaced(min_crop_area=min_crop_area), taught).synthesize(50)
        assert batch.y is not None
        parts = random_zoom(batch.x, 0.4, torch.Generator().manual_seed(0))
        with torch.no_grad():
            return (taught.module(parts).argmax(1) == batch.y.argmax(1)).float().mean().item()

    assert right(0.3) > right(1.0)


def test_taps_are_gone_after_an_inversion(taught: Network) -> None:
    made = inverter(FAST.replaced(inversion={"steps": 2}), taught)
    made.synthesize(10)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in made.problem.teacher.modules())


def test_a_teacher_without_batch_norm_is_told_what_serves_it() -> None:
    lenet = network(1, "lenet5", InputSpec(shape=(1, 32, 32)))
    with pytest.raises(ValueError, match="batch-norm statistics, and this teacher has none; use dfad, or sttss"):
        synthesize(lenet, DeepInversion(inversion={"steps": 1}), 10, device="cpu")


def test_a_roll_moves_all_images_together_and_loses_nothing() -> None:
    x = torch.randn(3, 2, 5, 6)
    generator, seen = torch.Generator().manual_seed(0), set()
    for _ in range(60):
        out = random_roll(x, 1, generator)
        hits = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if torch.equal(out, x.roll((i, j), (2, 3)))]
        assert len(hits) == 1
        seen |= set(hits)
    assert len(seen) == 9


def test_a_student_learns_the_digits_from_inverted_images(taught: Network) -> None:
    _, held = digits()
    plan = Plan(
        rounds=24, warmup=4, synthesis_rounds=4, images_per_round=100, pool_size=400, steps=20, batch=64,
        lr=0.05, schedule="cosine", eval_every=0, grid_every=0, log_every=24, save_every=24,
    )  # fmt: skip
    settings = FAST.replaced(inversion={"batch": 100}, look={"augment": {"crop": 1, "flip": False}})
    student = distill(taught, "small-cnn-quarter", recipe=Recipe(settings, plan, "test"), device="cpu", quiet=True)
    teacher = evaluate(taught, held).accuracy
    assert teacher > 95
    assert evaluate(student, held, inputs=taught.card.inputs).accuracy > 80
