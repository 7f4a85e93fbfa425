"""The default: looks at the teacher, the student, the memory and the time, and picks a method, its sizes and a schedule."""

from dataclasses import dataclass

from datafree.core.runtime import available_bytes
from datafree.data.augment import Augmentation
from datafree.engine.look import Look
from datafree.engine.method import Method, Problem
from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.blend import Blend
from datafree.methods.common.generators import Latent
from datafree.methods.common.procedural.supply import Supply
from datafree.methods.dfad import DFAD
from datafree.methods.nayer import NAYER
from datafree.methods.procedural import Procedural
from datafree.networks.cost import saved_bytes
from datafree.networks.health import Health, examine
from datafree.networks.outputs import noise_for

LOOKS = 400_000  # images that a student sees in the time that is planned where none is asked for
SHORTEST, LONGEST = 300, 7200  # seconds of that time
SHARE = 0.5  # of the available memory that a step may take
PASSES = 3  # of the teacher, forward and backward, that a look is about as dear as: its answer, the student, the images
STEPS = 1000  # of the student, at least, before its batches get larger
FEW = 50_000  # looks for which images that cost steps of their own are not worth it
LARGE = 64  # pixels a side beyond which a generator that doubles twice would be mostly its first layer


@dataclass(frozen=True)
class Choice:
    """A recipe, seconds for it, and why: three lines for a person to read."""

    recipe: Recipe
    seconds: float
    reasons: tuple[str, str, str]


def choose(problem: Problem, seconds: float | None = None) -> Choice:
    """The best thing to do with this teacher and student here, in `seconds` of wall time (None: by the size of the task).

    Raises `ValueError` where nothing can be done: a teacher whose outputs do not depend on its inputs.
    """
    health = examine(problem.teacher.network, problem.inputs)
    if health.outputs == "constant":
        raise ValueError("The teacher gives every image the same outputs, so there is nothing to learn; check its weights.")
    look = PASSES * health.seconds_per_image  # what a student's look at an image takes
    given = seconds or min(LONGEST, max(SHORTEST, 60 * round(LOOKS * look / 60)))
    micro, memory = _micro_batch(problem, health)
    method, why = _method(problem, health, given / look)
    plan = _plan(given / look, micro, isinstance(method, Blend))
    size = f"batches of {plan.batch}" + (f" in parts of {plan.micro_batch}" if plan.micro_batch else "")
    reasons = (
        why,
        f"{size}: an image takes {memory / 2**20:.1f} MiB in both networks, and {micro:,} of them are half of what is free",
        f"{given / 60:.0f} minutes{'' if seconds else ' by default'}: a look at an image takes about {1000 * look:.1f} ms here",
    )
    return Choice(Recipe(method, plan, "chosen for this teacher by auto"), given, reasons)


def _plan(looks: float, micro: int, dear: bool) -> Plan:
    """A schedule for about so many images that the student sees; the budget will set the rounds. `dear`: images cost steps."""
    batch = next((size for size in (64, 32, 16) if looks >= size * STEPS), 8)
    steps = int(min(40, max(1, looks / batch / 220)))
    images = max(8, min(steps * batch // (20 if dear else 5), micro))
    return Plan(
        rounds=220,
        warmup=20,
        images_per_round=images,
        pool_size=100 * images,
        steps=steps,
        batch=batch,
        micro_batch=micro if micro < batch else 0,
        lr=0.05,
        weight_decay=1e-4,
        schedule="cosine",
        ema_decay=0.99,
        log_every=1,
        save_every=10,
        eval_every=10,
        grid_every=0,
    )


def _method(problem: Problem, health: Health, looks: float) -> tuple[Method, str]:
    """The method and the reason for it, in a time in which a student sees about `looks` images."""
    look = _look(problem)
    channels, height, width = problem.inputs.shape
    statistics = health.norms_sane and health.gradient and looks >= FEW
    if problem.task == "segmentation" and statistics and height % 4 == width % 4 == 0 and max(height, width) <= 2 * LARGE:
        latent = Latent(size=128, generator="upsample", width=32)
        method: Method = DFAD(latent=latent, batch=16, objective="log-gap", statistics=1.0)
        return method, f"dfad with statistics: a segmenter with {health.norms} batch norms whose statistics are of data"
    if problem.task == "classification" and statistics and height % 4 == width % 4 == 0 and max(height, width) <= LARGE:
        host = NAYER(
            inversion={"batch": 200, "steps": 20, "lr": 4e-3},
            latent={"width": 32},
            views=Augmentation(crop=2, flip=channels == 3),
            look=look,
        )
        method = Blend(host=host, share=0.3)
        return method, f"nayer with 3 procedural images in 10: {health.norms} batch norms whose statistics are of data"
    lacks = "its inputs get no gradient" if not health.gradient else "it has no batch norms with statistics of data"
    if health.norms_sane and health.gradient:
        lacks = f"its inputs are {height}x{width}" if looks >= FEW else f"the time is enough for {looks:,.0f} looks at images"
    return Procedural(supply=Supply(), look=look), f"procedural images, chosen for even classes: {lacks}"


def _look(problem: Problem) -> Look:
    """Small changes that keep a digit a digit; objects in colour may also be mirrored."""
    affine = Augmentation(shift=0.1, scale=0.1, degrees=10, flip=problem.inputs.shape[0] == 3)
    return Look(temperature=20, augment=affine, mixup=1.0 if problem.task == "classification" else 0.0)


def _micro_batch(problem: Problem, health: Health) -> tuple[int, int]:
    """Most images that go through both networks together, and what one of them takes there, in bytes."""
    student = problem.student
    modes = [(layer, layer.training) for layer in student.modules()]
    student.eval()
    own = saved_bytes(student, noise_for(student, problem.inputs))
    for layer, mode in modes:
        layer.training = mode
    bytes_ = 2 * own + health.bytes_per_image
    return max(1, int(SHARE * available_bytes(problem.teacher.runtime.device) / max(1, bytes_))), bytes_
