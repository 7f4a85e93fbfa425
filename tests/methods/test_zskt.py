"""ZSKT, beyond what every method must do."""

import math

import pytest
import torch
from helpers import INPUTS, TINY, network
from torch import Tensor, nn

from datafree import InputSpec, Network, build
from datafree.core.runtime import Runtime
from datafree.data.pool import Batch
from datafree.engine.look import kd
from datafree.engine.method import Problem
from datafree.methods import zskt
from datafree.methods.common.losses import attention_distance
from datafree.methods.zskt import ZSKT, ZSKTSynthesizer, matched_stages
from datafree.networks.teacher import Teacher

SMALL = ZSKT(latent={"size": 8, "width": 8}, batch=16, reuses=3, lr=1e-2)
COLOUR = InputSpec(shape=(3, 32, 32))


def started(teacher: Network, settings: ZSKT = SMALL, student: nn.Module | None = None) -> ZSKTSynthesizer:
    """ZSKT around `teacher`, with a student that nothing has taught."""
    runtime = Runtime("cpu")
    inputs = teacher.card.inputs
    student = student or network(2, inputs=inputs).module
    with runtime.seeded():
        problem = Problem(Teacher(teacher.module, inputs, runtime), student.train(), inputs, teacher.card.classes)
        return settings.start(problem, runtime)


def test_each_batch_comes_as_often_as_it_is_learned_from_one_after_the_other(taught: Network) -> None:
    made = started(taught)
    parts = made.synthesize(16 * 7).x.split(16)
    for first, second in ((0, 1), (0, 2), (3, 4), (3, 5)):
        assert torch.equal(parts[first], parts[second])
    assert not torch.equal(parts[2], parts[3])
    assert not torch.equal(parts[5], parts[6])


def test_the_generator_steps_once_a_batch_and_the_fakes_are_of_the_same_noise_after_it(taught: Network) -> None:
    made, again = started(taught), started(taught)
    x = made.synthesize(16 * 3).x[:16]
    z = again.fakes.noise()
    again._ascend(z)
    assert torch.equal(x, again.fakes.images(z))
    steps = {int(state["step"]) for state in made.fakes.optimizer.state.values()}
    assert steps == {1}


def test_the_generator_raises_the_divergence(taught: Network) -> None:
    made = started(taught)
    student = made.problem.student

    def divergence() -> float:
        x = made.fakes.fresh(256)
        with torch.no_grad():
            return kd(student(x), taught.module(x), 1.0).item()

    first = divergence()
    for _ in range(60):
        made.synthesize(16)
    assert divergence() > 1.5 * first


def test_the_generators_gradient_is_clipped(taught: Network) -> None:
    norms = {}
    for clip in (0.0, 1e-3):
        made = started(taught, SMALL.replaced(clip=clip))
        made.synthesize(16)
        norms[clip] = torch.nn.utils.get_total_norm([w.grad for w in made.fakes.generator.parameters()]).item()
    assert norms[0.0] > 2e-3
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-2)


def test_the_loss_is_the_divergence_over_classes_and_the_attention_of_each_stage(taught: Network) -> None:
    student = network(2, inputs=taught.card.inputs).module.eval()
    made = started(taught, student=student)
    student.eval()
    x = torch.randn(6, *INPUTS.shape)
    maps: dict[str, Tensor] = {}
    for name, module in (("own", student), ("theirs", taught.module)):
        for layer in ("bn1", "bn2"):
            hook = lambda *call, key=f"{name}.{layer}": maps.update({key: call[2]})  # noqa: E731
            module.get_submodule(layer).register_forward_hook(hook)
    with torch.no_grad():
        expected = kd(student(x), taught.module(x), 1.0) / 10
        for layer in ("bn1", "bn2"):
            expected = expected + 250 * attention_distance(maps[f"own.{layer}"], maps[f"theirs.{layer}"])
    for module in (student, taught.module):
        for layer in ("bn1", "bn2"):
            module.get_submodule(layer)._forward_hooks.clear()
    assert made.loss(student, Batch(x)).item() == pytest.approx(expected.item(), rel=1e-4)


def test_without_attention_nothing_is_read_inside(taught: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("attention_distance", "stage_maps"):
        monkeypatch.delattr(zskt, name)
    made = started(taught, SMALL.replaced(attention=0))
    batch = made.synthesize(16)
    student = made.problem.student.eval()
    with torch.no_grad():
        p, q = taught.module(batch.x).softmax(1), student(batch.x).softmax(1)
    naive = sum(a * math.log(a / b) for a, b in zip(p.flatten().tolist(), q.flatten().tolist(), strict=True)) / 16 / 10
    assert made.loss(student, batch).item() == pytest.approx(naive, rel=1e-4)


@pytest.mark.parametrize(
    ("student", "teacher", "stages"),
    [
        ("wrn-16-1", "wrn-40-2", [("stages.0", "stages.0"), ("stages.1", "stages.1"), ("stages.2", "stages.2")]),
        ("resnet20-half", "wrn-16-1", [("layer1", "stages.0"), ("layer2", "stages.1"), ("layer3", "stages.2")]),
        ("lenet5-half", "lenet5", [("conv1", "conv1"), ("conv2", "conv2")]),
    ],
)
def test_stages_of_one_size_are_matched(student: str, teacher: str, stages: list[tuple[str, str]]) -> None:
    problem = Problem(
        Teacher(build(teacher, COLOUR, 10).eval(), COLOUR, Runtime("cpu")), build(student, COLOUR, 10).train(), COLOUR, 10
    )
    before = {name: value.clone() for name, value in problem.student.state_dict().items()}
    assert matched_stages(problem) == stages
    assert all(torch.equal(before[name], value) for name, value in problem.student.state_dict().items())
    assert problem.student.training


def test_networks_of_other_stages_are_refused_with_a_way_out() -> None:
    teacher = network(1, "vgg8", COLOUR)
    student = build("resnet20", COLOUR, 10)
    with pytest.raises(ValueError, match=r"student's feature maps are 32x32, 16x16, 8x8, the teacher's 32x32, .*attention 0"):
        started(teacher, student=student)
    started(teacher, SMALL.replaced(attention=0), student)
    with pytest.raises(ValueError, match="the student's feature maps are none, the teacher's 8x8, 4x4"):
        started(network(1), student=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))


def test_the_student_learns_from_the_attention_alone() -> None:
    """A student whose logits do not depend on its maps still gets a gradient there."""
    made = started(network(1))
    student = network(2, TINY).module.train()
    with torch.no_grad():
        student.fc2.weight.zero_()
    made.loss(student, made.synthesize(16)).backward()
    assert student.conv1.weight.grad.any()
