"""Procedural images, chosen so that the teacher's classes are even (after Frank & Davis, CVPR 2025, arXiv 2411.12817).

Shapes, textures and small programs are drawn at random, several times as many as are needed; the teacher names a class for
each, and those of the rarest classes so far are kept. No gradient, no batch norm, no generator: a teacher that only answers
is enough.
"""

from typing import Literal

from datafree.core.runtime import Runtime
from datafree.core.state import Stateful
from datafree.data.augment import Augmentation
from datafree.data.pool import Batch
from datafree.engine.look import Look
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.procedural.supply import Supplier, Supply


class Procedural(Method):
    """Settings of procedural images."""

    name: Literal["procedural"] = "procedural"
    supply: Supply = Supply()
    """The images."""
    look: Look = Look(temperature=20.0, augment=Augmentation(shift=0.1, scale=0.1, degrees=10), mixup=1.0)
    """How the student sees the images. Add flip for objects."""

    @property
    def needs_gradient(self) -> bool:
        """It only asks the teacher."""
        return False

    def start(self, problem: Problem, runtime: Runtime) -> "ProceduralSynthesizer":
        """Serves any teacher. Raises `ValueError` for a task that it does not serve."""
        problem.refuse_other_tasks("procedural", "segmentation")
        return ProceduralSynthesizer(self, problem, runtime)


class ProceduralSynthesizer(Synthesizer):
    """Procedural images at work, by the loss of ordinary distillation."""

    def __init__(self, settings: Procedural, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.supplier = Supplier(settings.supply, problem, runtime)

    def synthesize(self, n: int) -> Batch:
        """n images, without targets."""
        return Batch(self.supplier(n))

    def state(self) -> dict[str, Stateful]:
        return self.supplier.state()
