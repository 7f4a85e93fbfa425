"""The default: looks at the teacher, the student, the memory and the time, and picks a method, its sizes and a schedule."""

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from datafree.core.modes import evaluating
from datafree.core.runtime import Precision, available_bytes
from datafree.core.spec import InputSpec
from datafree.engine.method import Method, Problem
from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.networks.inside.cost import faster_precision, saved_bytes
from datafree.networks.inside.health import Health, examine
from datafree.networks.outputs import noise_for
from datafree.recipes.dfad import DFAD_RECIPES
from datafree.recipes.fast import FAST_RECIPES
from datafree.recipes.plans import ADAM
from datafree.recipes.procedural import PROCEDURAL_RECIPES

LOOKS = 1_000_000  # images that a student sees in the time that is planned where none is given
SHORTEST, LONGEST = 300, 7200  # seconds of that time
SHARE = 0.5  # of the available memory that a step may take
PASSES = 1  # of the teacher, forward and backward, that a look costs about as much as: its answer, the student, the images
FEW = 20_000  # looks for which images that cost steps of their own are not worth it
LARGE = 64  # pixels a side beyond which a generator that doubles twice would be mostly its first layer
ROUNDS = 300  # at least, that a run should have
CLIP = 5.0  # largest norm of the gradient of a student without norms
AVERAGED = 0.1  # longest average of the student's weights, share of the run: a longer one holds weights of long ago


@dataclass(frozen=True)
class Choice:
    """A recipe, seconds for it, the precision to compute in, and why: three lines for a person to read."""

    recipe: Recipe
    seconds: float
    precision: Precision
    reasons: tuple[str, str, str]


def choose(problem: Problem, seconds: float | None = None, precision: Precision = "auto") -> Choice:
    """The best thing to do with this teacher and student here, in `seconds` of wall time (None: by the size of the task).

    The precision `auto` is that of the run on a GPU, and on a CPU the faster one for these two networks.

    Raises `ValueError` where nothing can be done: a teacher whose outputs do not depend on its inputs.
    """
    health = examine(problem.teacher.network, problem.inputs)
    problem.teacher.refuse_outputs()
    given = seconds or default_seconds(health)
    precision, pace = _precision(problem, precision)
    look = look_seconds(health) / pace
    micro, memory = _micro_batch(problem, health)
    base, why = pick(problem.task, problem.inputs, health, given / look)
    plan = _sized(base.plan, given / look, micro).replaced(**_optimizer(problem.student))
    size = f"batches of {plan.batch}" + (f" in parts of {plan.micro_batch}" if plan.micro_batch else "")
    size += f" in {precision}" + (f", {pace:.1f} times as fast here" if pace > 1 else "")
    reasons = (
        why,
        f"{size}: an image takes {memory / 2**20:.1f} MiB in both networks, and {micro:,} of them are half of what is free",
        f"{_duration(given)}{'' if seconds else ' by default'}: a look at an image takes about {1000 * look:.1f} ms here",
    )
    return Choice(Recipe(_suited(base.method, problem), plan, f"picked by auto; {base.source}"), given, precision, reasons)


def look_seconds(health: Health) -> float:
    """Wall time that a student's look at an image is expected to take, with all that it needs."""
    return PASSES * health.seconds_per_image


def default_seconds(health: Health) -> float:
    """Wall time that is planned where none is given: by what a look at an image costs."""
    return min(LONGEST, max(SHORTEST, 60 * round(LOOKS * look_seconds(health) / 60)))


def pick(task: str, inputs: InputSpec, health: Health, looks: float) -> tuple[Recipe, str]:
    """The recipe to begin with, and why, in a time in which a student sees about `looks` images."""
    _, height, width = inputs.shape
    invertible = health.norms_sane and health.gradient
    fits = height % 4 == width % 4 == 0 and max(height, width) <= LARGE
    norms = f"{health.norms} batch norms whose statistics are of data"
    if task == "segmentation" and invertible and fits:
        return DFAD_RECIPES["dfad-camvid-light"], f"dfad with statistics: a segmenter with {norms}"
    if task == "classification" and invertible and fits and looks >= FEW:
        return FAST_RECIPES["fast-light"], f"fast: {norms}"
    if not health.gradient:
        lack = "no gradient reaches the teacher's inputs"
    elif not health.norms_sane:
        lack = "the teacher has no batch norms with statistics of data"
    else:
        lack = f"the time is enough for {looks:,.0f} looks at images" if fits else f"inputs of {height}x{width} are large"
    return PROCEDURAL_RECIPES["procedural-light"], f"procedural images, chosen for even classes: {lack}"


def _precision(problem: Problem, given: Precision) -> tuple[Precision, float]:
    """The precision to compute in, and how many times as fast as fp32 the networks are in it, if that was measured."""
    runtime = problem.teacher.runtime
    if given != "auto" or runtime.device.type != "cpu":
        return runtime.precision, 1.0
    return faster_precision(problem.teacher.network, problem.student, problem.inputs)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _suited(method: Method, problem: Problem) -> Method:
    """`method` for these images and this student. Images in colour may be mirrored; grey ones are often digits, and may not. A
    transformer learns more from whole images and sharper answers.
    """
    flip = {"flip": problem.inputs.shape[0] == 3}
    seen = {"temperature": 4.0, "mixup": 0.0} if _is_transformer(problem.student) else {}
    changes = {"look": {"augment": flip, **seen}, "views": flip}
    return method.replaced(**{name: change for name, change in changes.items() if name in type(method).model_fields})


def _sized(plan: Plan, looks: float, micro: int) -> Plan:
    """`plan` for about so many images that the student sees, and for a memory that holds `micro` of them."""
    per_round = max(8, min(plan.steps * plan.batch, int(looks / ROUNDS)))
    batch = max(8, min(plan.batch, per_round))
    images = max(8, min(plan.images() * per_round // (plan.steps * plan.batch), micro))
    return plan.replaced(
        batch=batch,
        steps=max(1, per_round // batch),
        images_per_round=images if plan.images_per_round else 0,
        micro_batch=micro if micro < batch else 0,
        ema_decay=min(plan.ema_decay, max(0.0, 1 - plan.batch / (AVERAGED * looks))),
        eval_every=10,
        guard={"every": 5},
        log_every=1 if plan.rounds < 500 else plan.log_every,
    )


def _optimizer(student: nn.Module) -> dict[str, Any]:
    """Changes of the plan by the student: Adam for a transformer, which gradient descent with momentum hardly trains; clipped
    gradients for one without any norm, which may diverge, and a high rate for all others.
    """
    if _is_transformer(student):
        return ADAM | {"lr": 3e-3}
    normed = any(isinstance(layer, _NormBase | nn.GroupNorm) for layer in student.modules())
    return {"lr": 0.1} if normed else {"clip": CLIP}


def _is_transformer(student: nn.Module) -> bool:
    return any(isinstance(layer, nn.LayerNorm | nn.MultiheadAttention) for layer in student.modules())


def _micro_batch(problem: Problem, health: Health) -> tuple[int, int]:
    """Most images that go through both networks together, and what one of them takes there, in bytes."""
    with evaluating(problem.student):
        own = saved_bytes(problem.student, noise_for(problem.student, problem.inputs))
    bytes_ = 2 * own + health.bytes_per_image
    return max(1, int(SHARE * available_bytes(problem.teacher.runtime.device) / max(1, bytes_))), bytes_
