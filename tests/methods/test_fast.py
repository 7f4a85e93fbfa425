"""Fast-Datafree against a naive computation of its outer step, with a teacher of real digits."""

import copy
import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import TINY, network
from torch import Tensor, nn

from datafree import Augmentation, Fast, InputSpec, Network, Plan, Recipe, distill, synthesize
from datafree.core.runtime import Runtime
from datafree.engine import loop
from datafree.engine.method import NoStudent, Problem
from datafree.methods.common import inversion
from datafree.methods.common.losses import agreed_divergence, statistics_distance
from datafree.methods.fast import FastSynthesizer
from datafree.networks.inside.taps import norm_statistics
from datafree.networks.teacher import Teacher

SMALL = Fast(
    inversion={"batch": 50, "steps": 5, "lr": 1e-2},
    noise_lr=0.05,
    latent={"size": 16, "width": 16},
    views=Augmentation(),
    look={"augment": Augmentation()},
)


def at_work(settings: Fast, teacher: Network, student: nn.Module | None = None, seed: int = 0) -> FastSynthesizer:
    runtime = Runtime("cpu", seed=seed)
    problem = Problem(Teacher(teacher.module, teacher.card.inputs, runtime), student or NoStudent(), teacher.card.inputs, 10)
    with runtime.seeded():
        return settings.start(problem, runtime)


def outer_gradients(made: FastSynthesizer) -> list[list[Tensor]]:
    """Those of each outer step from here on, in the order of the weights."""
    seen: list[list[Tensor]] = []

    def remember(optimizer: torch.optim.Optimizer, *_: object) -> None:
        weights = optimizer.param_groups[0]["params"]
        seen.append([weight.grad.clone() for weight in weights])

    made.optimizer.register_step_pre_hook(remember)
    return seen


def two_naive_steps(generator: nn.Module, teacher: Network, labels: Tensor, z: Tensor) -> list[Tensor]:
    """The sum of the gradients of two Adam steps on the generator and its noise, each of the weights before the step."""
    weights, z = list(generator.parameters()), z.clone().requires_grad_()
    adams = [torch.optim.Adam(weights, 1e-2, (0.5, 0.999)), torch.optim.Adam([z], 0.05, (0.5, 0.999))]
    sums = [torch.zeros_like(weight) for weight in weights]
    for _ in range(2):
        with norm_statistics(teacher.module) as seen:
            logits = teacher.module(teacher.card.inputs.to_network(generator(z)))
        parts = [(s.mean - s.running_mean).norm() + (s.variance - s.running_variance).norm() for s in seen.values()]
        loss = 0.5 * F.cross_entropy(logits, labels) + 10 * torch.stack(parts).sum()
        gradients = torch.autograd.grad(loss, [*weights, z])
        for total, weight, gradient in zip(sums, weights, gradients[:-1], strict=True):
            total += gradient
            weight.grad = gradient
        z.grad = gradients[-1]
        for adam in adams:
            adam.step()
    return sums


@pytest.mark.parametrize("meta", ["fomaml", "reptile"])
def test_the_outer_gradient_is_that_of_two_naive_steps(taught: Network, meta: str) -> None:
    made = at_work(SMALL.replaced(meta=meta, inversion={"steps": 2}), taught)
    kept, moved = (copy.deepcopy(made.generator) for _ in range(2))
    random = torch.Generator().manual_seed(0)
    random.set_state(made.runtime.random.get_state())
    labels, z = torch.randint(10, (50,), generator=random), torch.randn(50, 16, generator=random)
    sums = naive = two_naive_steps(moved, taught, labels, z)
    if meta == "reptile":
        naive = [67 * (old - new).detach() for old, new in zip(kept.parameters(), moved.parameters(), strict=True)]
    seen = outer_gradients(made)
    made.synthesize(50)
    clear = [total.abs().max().item() > 1e-4 for total in sums]  # a bias before a norm has no gradient but rounding
    assert sum(clear) == len(clear) - 2
    for one, other in itertools.compress(zip(seen[0], naive, strict=True), clear):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())


def test_the_kept_generator_moves_by_one_adam_for_the_whole_run(taught: Network) -> None:
    made = at_work(SMALL, taught)
    twin = copy.deepcopy(made.generator)
    adam = torch.optim.Adam(twin.parameters(), 5 * 1e-2, (0.5, 0.999))  # the inner rate times the inner steps
    seen = outer_gradients(made)
    for batch in range(3):
        made.synthesize(50)
        for weight, gradient in zip(twin.parameters(), seen[batch], strict=True):
            weight.grad = gradient
        adam.step()
    for one, other in zip(made.generator.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_without_an_outer_step_the_generator_itself_goes_on(taught: Network) -> None:
    made = at_work(SMALL.replaced(meta="none"), taught)
    seen, before = outer_gradients(made), copy.deepcopy(made.generator)
    made.synthesize(50)
    assert not seen
    assert "optimizer" not in made.state()
    steps = [(new - old).abs().max().item() for new, old in zip(made.generator.parameters(), before.parameters(), strict=True)]
    assert min(steps) > 1e-2, "five Adam steps of 0.01"


@pytest.mark.parametrize("meta", ["fomaml", "reptile", "none"])
def test_a_later_batch_starts_from_a_lower_loss(taught: Network, meta: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, starts = at_work(SMALL.replaced(meta=meta, inversion={"history": 0}), taught), list[float]()
    real = inversion.descend

    def noting(leaves, render, loss, *rest):  # type: ignore[no-untyped-def]
        starts.append(loss(render()).item())
        return real(leaves, render, loss, *rest)

    monkeypatch.setattr(inversion, "descend", noting)
    for _ in range(20):
        made.synthesize(50)
    assert starts[-1] < 0.7 * starts[0]


def test_images_come_nearer_to_the_teachers_statistics(taught: Network) -> None:
    made = at_work(SMALL, taught)

    def distance(x: Tensor) -> float:
        with torch.no_grad(), norm_statistics(taught.module) as seen:
            taught.module(x)
        return statistics_distance(seen.values()).item()

    first = made.synthesize(50).x
    for _ in range(40):
        last = made.synthesize(50).x
    assert distance(last) < 0.5 * distance(first)


def test_images_are_of_their_class_and_in_range(taught: Network) -> None:
    made = at_work(SMALL.replaced(inversion={"cross_entropy": 1, "statistics": 1, "steps": 10}), taught)
    for _ in range(40):
        batch = made.synthesize(50)
    assert batch.y is not None
    with torch.no_grad():
        assert (taught.module(batch.x).argmax(1) == batch.y.argmax(1)).float().mean() > 0.8
    unit = taught.card.inputs.to_float_pixels(batch.x)
    assert unit.min() >= 0
    assert unit.max() <= 1


def first_layers(made: FastSynthesizer) -> list[Tensor]:
    layers = (made.generator.project, made.generator.layers[0])
    return [values.detach().clone() for layer in layers for values in (layer.weight, layer.bias)]


def test_the_first_layer_begins_anew_once_and_alone(taught: Network) -> None:
    made = at_work(SMALL.replaced(reset_first_layer_at=0.5), taught)
    made.synthesize(50)
    made.at(0.4)
    before, rest = first_layers(made), made.generator.layers[1].weight.detach().clone()
    made.at(0.5)
    after = first_layers(made)
    assert not any(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert [values.abs().max().item() for values in after[1::2]] == [0, 0], "biases"
    assert after[0].std() == pytest.approx(0.02, rel=0.1)
    assert after[2].abs().max() < 0.1, "the norm's weight as well, as in its code"
    assert torch.equal(rest, made.generator.layers[1].weight)
    made.at(0.6)
    assert all(torch.equal(one, other) for one, other in zip(after, first_layers(made), strict=True))
    other = at_work(SMALL.replaced(reset_first_layer_at=0.5), taught, seed=3)
    for name, part in made.state().items():
        other.state()[name].load_state_dict(part.state_dict())
    other.at(0.6)
    assert all(torch.equal(one, values) for one, values in zip(after, first_layers(other), strict=True)), "after a restart"


def test_a_run_killed_about_the_reset_and_the_adversary_goes_on_to_the_bit(
    taught: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SMALL.replaced(reset_first_layer_at=0.5, adversary={"weight": 1.0, "rise_until": 0.5}, inversion={"steps": 2})
    plan = Plan(rounds=6, steps=2, batch=8, images_per_round=8, pool_size=48, lr=0.05, save_every=1, log_every=1, eval_every=0)

    def student(folder: str) -> dict[str, Tensor]:
        recipe = Recipe(settings, plan, "test")
        return distill(taught, TINY, recipe=recipe, out=tmp_path / folder, device="cpu", quiet=True).state_dict()

    unbroken, write = student("unbroken"), loop.RunLog.write
    for deadly in (3, 4):  # the reset is at the start of the fourth round

        def die(log: loop.RunLog, round_: int, values: dict[str, float], deadly: int = deadly) -> None:
            if round_ == deadly:
                raise MemoryError("killed")
            write(log, round_, values)

        monkeypatch.setattr(loop.RunLog, "write", die)
        with pytest.raises(MemoryError):
            student("broken")
    monkeypatch.setattr(loop.RunLog, "write", write)
    assert all(torch.equal(one, other) for one, other in itertools.zip_longest(unbroken.values(), student("broken").values()))


def test_the_adversary_waits_for_its_time_and_then_seeks_where_student_and_teacher_agree(taught: Network) -> None:
    student = copy.deepcopy(taught.module)
    with torch.no_grad():
        for weight in student.parameters():
            weight += 0.1 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    late = {"weight": 20.0, "rise_from": 0.5, "rise_until": 0.5}

    def images(settings: Fast, done: float) -> Tensor:
        """The newest of several seeds, since a student seeks other places by each."""
        made = [at_work(settings, taught, student, seed) for seed in range(4)]
        for each in made:
            each.at(done)
        return torch.cat([[each.synthesize(50).x for _ in range(10)][-1] for each in made])

    def gap(x: Tensor) -> float:
        with torch.no_grad():
            return agreed_divergence(student(x), taught.module(x)).item()

    plain, early = images(SMALL, 0.6), images(SMALL.replaced(adversary=late), 0.4)
    assert torch.equal(plain, early)
    assert gap(images(SMALL.replaced(adversary=late), 0.6)) > 1.1 * gap(plain)


def test_a_set_is_made_without_a_student_unless_the_adversary_needs_one(taught: Network) -> None:
    assert len(synthesize(taught, SMALL, 60, device="cpu", quiet=True)) == 60
    with pytest.raises(ValueError, match="depend on a student"):
        synthesize(taught, SMALL.replaced(adversary={"weight": 1.0}), 10, device="cpu")


def test_a_teacher_without_batch_norm_is_refused_with_statistics_and_served_without() -> None:
    lenet = network(1, "lenet5", InputSpec(shape=(1, 32, 32)))
    with pytest.raises(ValueError, match="fast matches batch-norm statistics, and this teacher has none; use dfad"):
        synthesize(lenet, SMALL, 10, device="cpu")
    assert len(synthesize(lenet, SMALL.replaced(inversion={"statistics": 0}), 10, device="cpu", quiet=True)) == 10
