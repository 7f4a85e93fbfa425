"""What benchmarks/speed.py lets play: for each case a plainly written round or step, and ours, from equal weights."""

import copy
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from plain import PlainDFAD, PlainDistillation, PlainInversion, PlainUpsampleGenerator

from datafree.answers import TASKS, probe
from datafree.architectures import build
from datafree.augment import Augmentation
from datafree.losses import soft_cross_entropy, statistics_distance
from datafree.method import Method, Problem, Teacher
from datafree.methods.deepinversion import DeepInversion
from datafree.methods.dfad import DFAD
from datafree.methods.stored import Stored
from datafree.nets.generators import DCGANGenerator
from datafree.runtime import Runtime, fastest_layout
from datafree.setfile import noise_set
from datafree.spec import InputSpec
from datafree.taps import norm_statistics
from datafree.transfer import Batch, Pool

INVERTED = DeepInversion(steps=1, temperature=20, augment=Augmentation())  # for what comes after its inversion


@dataclasses.dataclass(frozen=True)
class Case:
    """A pair of networks, a generator and a batch."""

    teacher: str
    student: str
    shape: tuple[int, int, int]
    latent: int
    width: int
    batch: int
    steps: int = 5
    generator: Literal["upsample", "dcgan"] = "upsample"
    classes: int = 10


def players(case: Case) -> tuple[Callable[[], None], Callable[[], None]]:
    """The plain round and ours, on networks with equal weights."""
    runtime = Runtime("cpu")
    inputs = InputSpec(shape=case.shape)
    teacher, student = (build(name, inputs, case.classes) for name in (case.teacher, case.student))
    generator = {"upsample": PlainUpsampleGenerator, "dcgan": DCGANGenerator}[case.generator]  # ours of the latter is plain
    plain = PlainDFAD(
        copy.deepcopy(teacher),
        copy.deepcopy(student),
        generator(case.shape, case.latent, case.width),
        case.latent,
        case.batch,
        case.steps,
    )
    task = TASKS[probe("student", student, inputs).dim()]
    problem = Problem(Teacher(teacher.eval(), runtime), fastest_layout(student.train()), inputs, case.classes, task)
    settings = DFAD(latent=case.latent, width=case.width, batch=case.batch, generator=case.generator)
    ours = settings.start(problem, runtime)
    optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, fused=True)

    pool = Pool(inputs, keep=0)

    def round_() -> None:
        pool.add(ours.synthesize(case.steps * case.batch))
        for batch in pool.batches(case.steps, case.batch, runtime.random):
            loss = ours.loss(student, batch)
            runtime.minimize(loss, optimizer)
            runtime.note("student_loss", loss)

    return plain.round, round_


def inversions(case: Case) -> tuple[Callable[[], None], Callable[[], None]]:
    """A plain step of inversion with statistics, and ours, from equal weights and targets."""
    runtime = Runtime("cpu")
    inputs = InputSpec(shape=case.shape)
    network = build(case.teacher, inputs, 10).eval()
    targets = torch.randn(case.batch, 10).softmax(1)
    plain = PlainInversion(copy.deepcopy(network), targets, case.shape, temperature=20)
    teacher = Teacher(network, runtime)
    x = torch.randn(case.batch, *case.shape).contiguous(memory_format=torch.channels_last).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.1, fused=True)
    best = [x.detach().clone(), torch.tensor(torch.inf)]

    def step() -> None:
        with norm_statistics(teacher.network) as seen:
            answer = teacher(x)
        loss = soft_cross_entropy(answer, targets, 20).mean() + statistics_distance(seen.values())
        with torch.no_grad():
            best[0] = torch.where(loss < best[1], x, best[0])
            best[1] = torch.minimum(loss, best[1])
        runtime.minimize(loss, optimizer)

    return plain.step, step


def distillations(case: Case) -> tuple[Callable[[], None], Callable[[], None]]:
    """A plain step of the student after an inversion whose hooks are still there, and ours after one of ours."""
    inputs = InputSpec(shape=case.shape)
    teacher, student = (build(name, inputs, 10) for name in (case.teacher, case.student))
    images = torch.randn(1000, *case.shape)
    targets = torch.randn(case.batch, 10).softmax(1)
    inversion = PlainInversion(copy.deepcopy(teacher), targets, case.shape, temperature=20)
    inversion.step()
    plain = PlainDistillation(inversion, copy.deepcopy(student), images, case.batch, temperature=20)
    return plain.step, _student_step(INVERTED, teacher, student, images, case)


def after_inversion(case: Case) -> tuple[Callable[[], None], Callable[[], None]]:
    """Our step on a stored set, and our step on the same images after an inversion: they should cost the same."""
    inputs = InputSpec(shape=case.shape)
    teacher, student = (build(name, inputs, 10) for name in (case.teacher, case.student))
    images = torch.randn(1000, *case.shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.safetensors"
        noise_set(inputs, 8, seed=0).save(path)
        stored = _student_step(Stored(path=path, temperature=20), teacher, copy.deepcopy(student), images, case)
    return stored, _student_step(INVERTED, teacher, student, images, case)


def _student_step(
    method: Method, teacher: torch.nn.Module, student: torch.nn.Module, images: torch.Tensor, case: Case
) -> Callable[[], None]:
    """A step of the student on a pool of `images`, after one synthesis."""
    runtime = Runtime("cpu")
    problem = Problem(Teacher(teacher.eval(), runtime), fastest_layout(student.train()), InputSpec(shape=case.shape), 10)
    ours = method.start(problem, runtime)
    ours.synthesize(8)
    optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, fused=True)
    pool = Pool(problem.inputs, keep=len(images))
    pool.add(Batch(images))

    def step() -> None:
        for batch in pool.batches(1, case.batch, runtime.random):
            loss = ours.loss(student, batch)
            runtime.minimize(loss, optimizer)
            runtime.note("student_loss", loss)

    return step


KINDS = {
    "dfad round": players,
    "inversion step": inversions,
    "distillation step": distillations,
    "same step, stored / inverted": after_inversion,
}
CASES = {
    "lenet5": ("dfad round", Case("lenet5", "lenet5-half", (1, 32, 32), latent=100, width=128, batch=128)),
    "wrn-40-2": ("dfad round", Case("wrn-40-2", "wrn-16-1", (3, 32, 32), latent=256, width=128, batch=64)),
    "camvid": (
        "dfad round",
        Case("compact-segmenter", "compact-segmenter-half", (3, 64, 64), 128, 16, batch=16, generator="dcgan", classes=11),
    ),
    "distillation-wrn-40-2": (
        "distillation step",
        Case("wrn-40-2", "wrn-16-1", (3, 32, 32), latent=0, width=0, batch=64, steps=0),
    ),
    "stored-or-inverted-wrn-40-2": (
        "same step, stored / inverted",
        Case("wrn-40-2", "wrn-16-1", (3, 32, 32), latent=0, width=0, batch=64, steps=0),
    ),
    "inversion-wrn-40-2": ("inversion step", Case("wrn-40-2", "none", (3, 32, 32), latent=0, width=0, batch=64, steps=0)),
}
