"""Any other method with a share of procedural images, which keep the student right where the host's collapse."""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from datafree.core.runtime import Runtime
from datafree.core.state import Stateful
from datafree.data.pool import Batch
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.procedural.supply import Supplier, Supply
from datafree.methods.dfad import DFAD
from datafree.methods.hosts import Host


class Blend(Method):
    """Settings of a blend."""

    name: Literal["blend"] = "blend"
    host: Host = DFAD()
    """The method whose images are mixed with procedural ones, and whose loss the student minimises."""
    share: float = Field(0.3, ge=0, lt=1)
    """Share of procedural images among those of a round."""
    procedural: Supply = Supply()
    """The procedural images."""

    @property
    def adversarial(self) -> bool:
        """As the host."""
        return self.host.adversarial

    @property
    def needs_gradient(self) -> bool:
        """As the host."""
        return self.host.needs_gradient

    def start(self, problem: Problem, runtime: Runtime) -> "BlendSynthesizer":
        """Raises `ValueError` as the host does."""
        return BlendSynthesizer(self, problem, runtime)

    def files(self) -> tuple[Path, ...]:
        return self.host.files()


class BlendSynthesizer(Synthesizer):
    """A host and procedural images side by side; everything but the images is the host's."""

    def __init__(self, settings: Blend, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime)
        self.settings = settings
        self.host = settings.host.start(problem, runtime)
        self.procedural = Supplier(settings.procedural, problem, runtime)
        self.reads_targets = self.host.reads_targets

    def at(self, done: float) -> None:
        self.host.at(done)

    def restart(self) -> bool:
        return self.host.restart()

    def preparation(self) -> tuple[int, int]:
        return self.host.preparation()

    def prepare(self) -> None:
        self.host.prepare()

    def synthesize(self, n: int) -> Batch:
        """n images in random order, with targets where the host's loss reads them, and logits where the host gives them."""
        drawn = int(self.settings.share * n)
        made = self.host.synthesize(n - drawn)
        if not drawn:
            return made
        own = self.procedural(drawn)
        order = torch.randperm(n, generator=self.runtime.random, device=self.runtime.device)
        y, logits = made.y if self.reads_targets else None, made.logits
        if y is not None or logits is not None:
            with torch.no_grad(), self.runtime.autocast():
                answer = self.teacher.fast(own).float()
            # Nobody made these images for a target: the teacher's choice takes its place.
            y = None if y is None else torch.cat([y, F.one_hot(answer.argmax(1), self.problem.classes).to(y)])[order]
            logits = None if logits is None else torch.cat([logits, answer])[order]
        return Batch(torch.cat([made.x, own])[order], y, logits)

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """The host's."""
        return self.host.loss(student, batch)

    def state(self) -> dict[str, Stateful]:
        parts = {"host": self.host.state(), "procedural": self.procedural.state()}
        return {f"{whose}.{name}": part for whose, state in parts.items() for name, part in state.items()}

    def on_student_batch(self, student: nn.Module, x: Tensor, answer: Tensor) -> None:
        self.host.on_student_batch(student, x, answer)

    def student_parameters(self) -> tuple[nn.Parameter, ...]:
        return self.host.student_parameters()

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return self.host.optimizers()

    def pictures(self) -> dict[str, Tensor]:
        return self.host.pictures()

    def provenance(self) -> str:
        return self.host.provenance()
