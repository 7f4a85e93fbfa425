"""CSD against its objective, with a teacher of real digits."""

import pytest
import torch
from helpers import network
from torch import nn

from datafree import CSD, Augmentation, InputSpec, Network, synthesize
from datafree.core.runtime import Runtime
from datafree.data.pool import Batch
from datafree.engine.method import Problem
from datafree.methods.csd import CSDSynthesizer
from datafree.networks.teacher import Teacher

FAST = CSD(
    inversion={"batch": 50, "steps": 100, "lr": 1e-2},
    warmup_images=0,
    latent={"size": 16, "width": 16},
    views=Augmentation(crop=1),
    look={"augment": Augmentation()},
    hardness=1.0,
)


def inverter(settings: CSD, teacher: Network, student: nn.Module | None = None, seed: int = 0) -> CSDSynthesizer:
    runtime = Runtime("cpu", seed=seed)
    pupil = student or network(5, "small-cnn-half", teacher.card.inputs).module
    problem = Problem(Teacher(teacher.module, teacher.card.inputs, runtime), pupil.train(), teacher.card.inputs, 10)
    with runtime.seeded():
        return settings.start(problem, runtime)


def test_images_are_of_their_class_and_in_range(taught: Network) -> None:
    batch = inverter(FAST.replaced(inversion={"steps": 150}), taught).synthesize(80)
    assert batch.y is not None
    with torch.no_grad():
        chosen = taught.module(batch.x).argmax(1)
    assert (chosen == batch.y.argmax(1)).float().mean() > 0.7
    unit = taught.card.inputs.to_float_pixels(batch.x)
    assert unit.min() >= 0
    assert unit.max() <= 1


def test_the_head_tells_class_and_quarter_turns_in_a_naive_loop(taught: Network) -> None:
    made = inverter(FAST, taught)
    student = made.problem.student.eval()
    x, labels = torch.randn(6, *taught.card.inputs.shape), torch.arange(6)
    with torch.no_grad():
        seen = made._head_loss(made.head, made._features(student, x), labels).item()
        total = 0.0
        for image, label in zip(x, labels.tolist(), strict=True):
            for quarters in range(4):
                turned = image
                for _ in range(quarters):
                    turned = turned.transpose(1, 2).flip(1)
                answer = made.head(made._features(student, turned[None])[:1])[0]
                logits = answer / answer.norm()
                total += (logits.logsumexp(0) - logits[4 * label + quarters]).item()
    assert seen == pytest.approx(total / 24, rel=1e-4)


def test_images_are_hard_for_the_head_and_the_first_ones_do_not_look_at_it(taught: Network) -> None:
    def error(settings: CSD) -> tuple[float, torch.Tensor]:
        made = inverter(settings, taught)
        train = torch.randn(400, *taught.card.inputs.shape)
        for part in train.split(50):  # a head that has learned something
            made.loss(made.problem.student, Batch(part))
        labels = torch.arange(50) % 10
        x = made._invert(labels)
        with torch.no_grad():
            return made._head_loss(made.head, made._features(made.problem.student.eval(), x), labels).item(), x

    plain, blind = error(FAST.replaced(warmup_images=1000, warmup_steps=100))
    hard, _ = error(FAST.replaced(hardness=20.0))
    assert hard > plain
    assert torch.equal(blind, error(FAST.replaced(warmup_images=1000, warmup_steps=100, hardness=20.0))[1])


def test_the_student_s_steps_teach_the_head_and_a_new_set_begins_it_anew(taught: Network) -> None:
    made = inverter(FAST, taught)
    x = torch.randn(100, *taught.card.inputs.shape)
    with torch.no_grad():
        labels = made.teacher(x).argmax(1)

    def error() -> float:
        student = made.problem.student.eval()
        with torch.no_grad():
            value = made._head_loss(made.head, made._features(student, x), labels).item()
        student.train()
        return value

    before, norms = error(), [b.clone() for name, b in made.problem.student.named_buffers() if "running" in name]
    with torch.no_grad():
        for _ in range(60):
            with torch.enable_grad():
                made.loss(made.problem.student.eval(), Batch(x))
    assert error() < before - 0.1
    assert all(
        torch.equal(a, b)
        for a, b in zip(norms, [b for name, b in made.problem.student.named_buffers() if "running" in name], strict=True)
    )
    learned = error()
    made.synthesize(10)
    assert error() > learned + 0.05


def test_what_it_cannot_serve_is_said_in_words(taught: Network) -> None:
    lenet = network(1, "lenet5", InputSpec(shape=(1, 32, 32)))
    with pytest.raises(ValueError, match="batch-norm statistics, and this teacher has none; use dfad, or sttss"):
        inverter(FAST, lenet, lenet.module)
    with pytest.raises(ValueError, match="8x12 must be square"):
        inverter(FAST, network(1, inputs=InputSpec(shape=(1, 8, 12))))
    headless = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(ValueError, match="ends in a linear layer, and '1' is a Flatten; use cmi"):
        inverter(FAST, taught, headless)
    with pytest.raises(ValueError, match="depend on a student"):
        synthesize(taught, CSD(), 10, device="cpu")
