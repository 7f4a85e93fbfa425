"""CMI against its objective, with a teacher of real digits."""

import pytest
import torch
from helpers import network
from torch import Tensor, nn

from datafree import CMI, Augmentation, InputSpec, Network, synthesize
from datafree.core.runtime import Runtime
from datafree.engine.method import NoStudent, Problem
from datafree.methods.cmi import CMISynthesizer, FeatureMemory
from datafree.methods.common.losses import agreed_divergence
from datafree.networks.teacher import Teacher

FAST = CMI(
    inversion={"batch": 50, "steps": 60, "lr": 1e-2},
    latent={"size": 16, "width": 16},
    memory_size=200,
    negatives=100,
    projection=16,
    views=Augmentation(crop=1),
)


def inverter(settings: CMI, teacher: Network, student: nn.Module | None = None, seed: int = 0) -> CMISynthesizer:
    runtime = Runtime("cpu", seed=seed)
    problem = Problem(Teacher(teacher.module, teacher.card.inputs, runtime), student or NoStudent(), teacher.card.inputs, 10)
    with runtime.seeded():
        return settings.start(problem, runtime)


def test_images_are_of_their_class_and_in_range(taught: Network) -> None:
    batch = inverter(FAST.replaced(inversion={"steps": 150}), taught).synthesize(80)
    assert batch.y is not None
    with torch.no_grad():
        chosen = taught.module(batch.x).argmax(1)
    assert (chosen == batch.y.argmax(1)).float().mean() > 0.8
    inputs = taught.card.inputs
    unit = inputs.to_float_pixels(batch.x)
    assert unit.min() >= 0
    assert unit.max() <= 1


def test_the_contrast_is_the_cross_entropy_of_a_naive_loop(taught: Network) -> None:
    made = inverter(FAST, taught)
    features = made.memory.rows.shape[1] // 2
    near, far, old = torch.randn(3, features), torch.randn(3, features), torch.randn(4, 2 * features).half()
    made.memory.add(old.float())
    state = made.runtime.random.get_state()
    seen = made._contrast(near, far).item()
    made.runtime.random.set_state(state)
    drawn = made.memory.draw(100)

    def projected(x: Tensor) -> Tensor:
        y = made.head(x)
        return y / y.norm()

    ones = [projected(x) for x in (*far, *drawn[:, features:])]
    others = [projected(x) for x in (*near, *drawn[:, :features])]
    each = []
    for i, one in enumerate(ones):
        logits = torch.stack([one @ other / 0.1 for other in others])
        each.append((logits.logsumexp(0) - logits[i]).item())
    assert seen == pytest.approx(sum(each[:3]) / 3 + sum(each[3:]) / 4, rel=1e-4)


def test_contrast_keeps_images_of_a_class_apart(taught: Network) -> None:
    """Spread of the teacher's features among images made for one class, with the term and without."""

    def spread(contrast: float) -> float:
        total = 0.0
        for seed in range(3):
            made = inverter(FAST.replaced(contrast=contrast, inversion={"statistics": 0.0}), taught, seed=seed)
            features = nn.functional.normalize(made._features(made._invert(torch.full((50,), 3))).detach(), dim=1)
            total += 1 - (features @ features.T).mean().item()
        return total

    assert spread(2.0) > 1.2 * spread(0.0)


def test_the_bank_remembers_the_newest_and_draws_without_replacement() -> None:
    memory = FeatureMemory(6, 1, Runtime("cpu"))
    assert memory.draw(3).shape == (0, 1)
    for first in range(0, 9, 3):
        memory.add(torch.arange(first, first + 3.0)[:, None])
    assert memory.draw(10).flatten().sort().values.tolist() == [3, 4, 5, 6, 7, 8]
    assert len(memory.draw(4).unique()) == 4


def test_the_adversary_finds_where_student_and_teacher_agree_on_the_class_alone(taught: Network) -> None:
    student = network(5, "small-cnn-half", taught.card.inputs).module
    gaps = []
    for weight in (0.0, 5.0):
        settings = FAST.replaced(adversary=weight, inversion={"cross_entropy": 0.1}, contrast=0.0)
        x = inverter(settings, taught, student).synthesize(50).x
        with torch.no_grad():
            gaps.append(agreed_divergence(student(x), taught.module(x)).item())
    assert gaps[1] > 1.1 * gaps[0]
    with pytest.raises(ValueError, match="depend on a student"):
        synthesize(taught, CMI(adversary=0.5), 10, device="cpu")


def test_a_teacher_without_batch_norm_is_told_what_serves_it() -> None:
    lenet = network(1, "lenet5", InputSpec(shape=(1, 32, 32)))
    with pytest.raises(ValueError, match="batch-norm statistics, and this teacher has none; use dfad, or sttss"):
        synthesize(lenet, CMI(inversion={"steps": 1}), 10, device="cpu")


def test_a_method_with_a_memory_is_not_made_in_shards(taught: Network) -> None:
    with pytest.raises(ValueError, match="depends on earlier ones"):
        synthesize(taught, FAST, 200, shard=(1, 2), device="cpu", quiet=True)
