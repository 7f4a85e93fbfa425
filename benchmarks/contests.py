"""The cases of benchmarks/speed.py: for each a plainly written round or step, and ours, from equal weights."""

import contextlib
import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from plain import PlainDFAD, PlainDistillation, PlainInversion, PlainUpsampleGenerator
from torch import Tensor, nn

from datafree.core.modes import fastest_layout
from datafree.core.runtime import Compile, Precision, Runtime
from datafree.core.spec import InputSpec
from datafree.data.augment import Augmentation
from datafree.data.pool import Batch, Pool
from datafree.data.sets import noise_set
from datafree.engine.method import Method, Problem
from datafree.methods.common.generators import DCGANGenerator
from datafree.methods.common.losses import soft_cross_entropy, statistics_distance
from datafree.methods.deepinversion import DeepInversion
from datafree.methods.dfad import DFAD
from datafree.methods.stored import Stored
from datafree.networks.building.build import build
from datafree.networks.inside.taps import norm_statistics
from datafree.networks.outputs import TASKS, probe
from datafree.networks.teacher import Teacher

# What is measured comes after its inversion, so a single step serves.
INVERTED = DeepInversion(inversion={"steps": 1}, look={"temperature": 20, "augment": Augmentation()})


@dataclass(frozen=True)
class Pair:
    """A teacher and a student, the size of DFAD's generator, and a batch."""

    teacher: str
    student: str
    shape: tuple[int, int, int]
    latent: int
    width: int
    batch: int
    generator: Literal["upsample", "dcgan"] = "upsample"
    classes: int = 10
    steps: int = 5  # of the student in a DFAD round


PAIRS = {
    "lenet5": Pair("lenet5", "lenet5-half", (1, 32, 32), latent=100, width=128, batch=128),
    "lenet5-narrow": Pair("lenet5", "lenet5-half", (1, 32, 32), latent=100, width=8, batch=128, steps=10),
    "resnet20": Pair("resnet20", "resnet20-half", (3, 32, 32), latent=256, width=128, batch=64),
    "wrn-40-2": Pair("wrn-40-2", "wrn-16-1", (3, 32, 32), latent=256, width=128, batch=64),
    "resnet34": Pair("resnet34", "resnet18", (3, 32, 32), latent=256, width=128, batch=16),
    "camvid": Pair(
        "compact-segmenter", "compact-segmenter-half", (3, 64, 64), 128, 16, batch=16, generator="dcgan", classes=11
    ),
}


@dataclass(frozen=True)
class Place:
    """The device and the precision of both loops."""

    device: str = "cpu"
    precision: Precision = "fp32"
    graphs: bool = False  # compile with CUDA graphs

    def runtime(self, compile: bool = False) -> Runtime:
        """A fresh runtime."""
        mode: Compile = "reduce-overhead" if self.graphs else "default"
        return Runtime(self.device, self.precision, compile=mode if compile else "off")

    def plainly(self, play: Callable[[], None]) -> Callable[[], None]:
        """A plain loop in that precision."""

        def run() -> None:
            with self.runtime().autocast() if self.precision == "bf16" else contextlib.nullcontext():
                play()

        return run


@dataclass(frozen=True)
class Contest:
    """A plain round and ours, how many images each passes through the student, and parts of ours to time separately."""

    plain: Callable[[], None]
    ours: Callable[[], None]
    images: int
    parts: dict[str, Callable[[], None]] = field(default_factory=dict)


def networks(pair: Pair) -> tuple[nn.Module, nn.Module]:
    """A fresh teacher and student, on torch's default device."""
    inputs = InputSpec(shape=pair.shape)
    return build(pair.teacher, inputs, pair.classes), build(pair.student, inputs, pair.classes)


def problem_of(pair: Pair, teacher: nn.Module, student: nn.Module, runtime: Runtime) -> Problem:
    """The problem that a method starts on."""
    inputs = InputSpec(shape=pair.shape)
    task = TASKS[probe("student", student, inputs).dim()]
    return Problem(Teacher(teacher.eval(), inputs, runtime), fastest_layout(student.train()), inputs, pair.classes, task)


def dfad(pair: Pair, place: Place) -> Contest:
    """A DFAD round: `pair.steps` steps of the student, one of the generator."""
    teacher, student = networks(pair)
    generator = {"upsample": PlainUpsampleGenerator, "dcgan": DCGANGenerator}[pair.generator]  # our DCGAN is already plain
    plain = PlainDFAD(
        copy.deepcopy(teacher),
        copy.deepcopy(student),
        generator(pair.shape, pair.latent, pair.width),
        pair.latent,
        pair.batch,
        pair.steps,
    )
    ours, generator_part = _our_dfad(pair, place, teacher, student)
    return Contest(place.plainly(plain.round), ours, (pair.steps + 1) * pair.batch, {"generator": generator_part})


def compiled(pair: Pair, place: Place) -> Contest:
    """Our DFAD round without and with torch.compile, whose first call compiles."""
    teacher, student = networks(pair)
    ours, _ = _our_dfad(pair, place, copy.deepcopy(teacher), copy.deepcopy(student))
    theirs, _ = _our_dfad(pair, place, teacher, student, compile=True)
    return Contest(ours, theirs, (pair.steps + 1) * pair.batch)


def _our_dfad(
    pair: Pair, place: Place, teacher: nn.Module, student: nn.Module, compile: bool = False
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Our round, and the generator's part of it."""
    runtime = place.runtime(compile)
    settings = DFAD(latent={"size": pair.latent, "width": pair.width, "generator": pair.generator}, batch=pair.batch)
    problem = problem_of(pair, teacher, student, runtime)
    ours = settings.start(problem, runtime)
    optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, fused=True)
    pool, learner = Pool(problem.inputs, size=0, device=runtime.device), runtime.compiled(student)

    def round_() -> None:
        pool.add(ours.synthesize(pair.steps * pair.batch))
        for batch in pool.batches(pair.steps, pair.batch, runtime.random):
            with runtime.autocast():
                loss = ours.loss(learner, batch)
            runtime.minimize(loss, optimizer)
            runtime.note("student_loss", loss)

    def generator_part() -> None:
        """The generator's part of a round: a pass with gradients, and fakes for the student."""
        with runtime.autocast():
            ours.fakes.generator(runtime.noise(pair.batch, pair.latent)).float().sum().backward()
            with torch.no_grad():
                for _ in range(pair.steps):
                    ours.fakes.generator(runtime.noise(pair.batch, pair.latent))

    return round_, generator_part


def inversion(pair: Pair, place: Place) -> Contest:
    """A step of inversion, with batch-norm statistics where the network has batch norms."""
    runtime = place.runtime()
    network = networks(pair)[0].eval()
    targets = torch.randn(pair.batch, pair.classes).softmax(1)
    plain = PlainInversion(copy.deepcopy(network), targets, pair.shape, temperature=20)
    teacher = Teacher(network, InputSpec(shape=pair.shape), runtime)
    x = torch.randn(pair.batch, *pair.shape).contiguous(memory_format=torch.channels_last).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.1, fused=True)
    best = [x.detach().clone(), torch.tensor(torch.inf)]

    def step() -> None:
        with runtime.autocast(), norm_statistics(teacher.network) as seen:
            answer = teacher(x).float()
        loss = soft_cross_entropy(answer, targets, 20).mean()
        if seen:
            loss = loss + statistics_distance(seen.values())
        with torch.no_grad():
            best[0] = torch.where(loss < best[1], x, best[0])
            best[1] = torch.minimum(loss, best[1])
        runtime.minimize(loss, optimizer)

    return Contest(place.plainly(plain.step), step, pair.batch)


def distillation(pair: Pair, place: Place) -> Contest:
    """A student step on a stored set."""
    teacher, student = networks(pair)
    images = torch.randn(1000, *pair.shape)
    plain = PlainDistillation(copy.deepcopy(teacher).eval(), copy.deepcopy(student), images, pair.batch, temperature=20)
    return Contest(place.plainly(plain.step), _stored_step(teacher, student, images, pair, place), pair.batch)


def after_inversion(pair: Pair, place: Place) -> Contest:
    """A student step after an inversion: the plain loop's hooks are still there, ours are gone."""
    teacher, student = networks(pair)
    images = torch.randn(1000, *pair.shape)
    targets = torch.randn(pair.batch, pair.classes).softmax(1)
    inverted = PlainInversion(copy.deepcopy(teacher), targets, pair.shape, temperature=20)
    inverted.step()
    plain = PlainDistillation(inverted.teacher, copy.deepcopy(student), images, pair.batch, temperature=20)

    def step() -> None:
        inverted.distances = []
        plain.step()

    ours = _student_step(INVERTED, teacher, student, images, pair, place)
    return Contest(place.plainly(step), ours, pair.batch)


def stored_or_inverted(pair: Pair, place: Place) -> Contest:
    """Our student step on a stored set, and on the same images after an inversion: they should cost the same."""
    teacher, student = networks(pair)
    images = torch.randn(1000, *pair.shape)
    stored = _stored_step(teacher, copy.deepcopy(student), images, pair, place)
    return Contest(stored, _student_step(INVERTED, teacher, student, images, pair, place), pair.batch)


def _stored_step(teacher: nn.Module, student: nn.Module, images: Tensor, pair: Pair, place: Place) -> Callable[[], None]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.safetensors"
        noise_set(InputSpec(shape=pair.shape), 8, seed=0).save(path)
        method = Stored(path=path, look={"temperature": 20, "augment": Augmentation()})
        return _student_step(method, teacher, student, images, pair, place)


def _student_step(
    method: Method, teacher: nn.Module, student: nn.Module, images: Tensor, pair: Pair, place: Place
) -> Callable[[], None]:
    """A student step on a pool of `images`, after one synthesis."""
    runtime = place.runtime()
    problem = problem_of(pair, teacher, student, runtime)
    ours = method.start(problem, runtime)
    ours.synthesize(8)
    optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, fused=True)
    pool = Pool(problem.inputs, size=len(images), device=runtime.device)
    pool.add(Batch(images))

    def step() -> None:
        for batch in pool.batches(1, pair.batch, runtime.random):
            with runtime.autocast():
                loss = ours.loss(student, batch)
            runtime.minimize(loss, optimizer)
            runtime.note("student_loss", loss)

    return step


KINDS: dict[str, Callable[[Pair, Place], Contest]] = {
    "dfad": dfad,
    "compiled": compiled,
    "inversion": inversion,
    "distillation": distillation,
    "after-inversion": after_inversion,
    "stored-or-inverted": stored_or_inverted,
}
CASES = {
    f"{kind}-{pair}": (kind, pair)
    for kind in ("dfad", "inversion", "distillation")
    for pair in PAIRS
    if (kind, pair) != ("inversion", "camvid") and (kind == "dfad" or pair != "lenet5-narrow")  # no inversion serves masks
}
CASES |= {f"compiled-{pair}": ("compiled", pair) for pair in PAIRS}
CASES |= {f"{kind}-wrn-40-2": (kind, "wrn-40-2") for kind in ("after-inversion", "stored-or-inverted")}
