"""Inversion: gradient descent on images until the teacher predicts their targets. All methods share this loop."""

from collections.abc import Callable, Iterable
from typing import final

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor
from torch.optim.optimizer import ParamsT

from datafree.core.distributed import mean_over_ranks
from datafree.core.modes import evaluating, frozen
from datafree.core.runtime import Runtime
from datafree.core.settings import Images, Settings, Steps
from datafree.core.state import Stateful
from datafree.engine.method import Problem
from datafree.methods.common.history import History
from datafree.methods.common.losses import statistics_distance
from datafree.networks.inside.taps import norm_channels, norm_statistics


class Inversion(Settings):
    """How images are optimised: Adam on the loss of their targets and of the teacher's batch-norm statistics."""

    batch: Images = 200
    """Images inverted together; statistics are matched over these images."""
    steps: Steps = 200
    """Adam steps for each batch."""
    lr: PositiveFloat = 1e-3
    """Learning rate of the images, or of a generator and its noise."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's two decay rates."""
    patience: NonNegativeInt = 0
    """Stop a batch if its least loss falls by less than a thousandth over this many steps; 0: never."""
    cross_entropy: NonNegativeFloat = 1.0
    """Weight of the loss for the class, or the soft target, that an image is made for."""
    statistics: NonNegativeFloat = 1.0
    """Weight of the distance between the batch's statistics and the running ones of the teacher's batch norms."""
    scale_free: bool = False
    """Measure each layer's distance in shares of its running statistics, so that no layer outweighs another (ours)."""
    history: float = Field(0.0, ge=0, lt=1)
    """Decay per batch of an average of what earlier batches' statistics were, which counts with this share in the distance, so
    that a batch corrects what all of them lack (Fast-Datafree, its code; 0.9 there); 0: each batch on its own."""
    balanced: bool = False
    """Draw classes in equal numbers (up to one) and random order, where a method draws them; else each on its own."""

    def labels(self, n: int, classes: int, runtime: Runtime) -> Tensor:
        """Classes [n] to make images for."""
        if not self.balanced:
            return torch.randint(classes, (n,), generator=runtime.random, device=runtime.device)
        first = torch.randperm(classes, generator=runtime.random, device=runtime.device)  # who gets one more
        rows = torch.randperm(n, generator=runtime.random, device=runtime.device)
        return first[torch.arange(n, device=runtime.device) % classes][rows]


Render = Callable[[], Tensor]  # returns the current images [B, C, H, W], network units
Match = Callable[[Tensor], Tensor]  # from the teacher's logits to a loss: one value an image [B], or a scalar
Terms = Callable[[Tensor, Tensor, Tensor], Iterable[Tensor]]  # from images, their view and logits to more losses, as `Match`


@final
class Inverter:
    """Runs inversions with one group of settings; a method gives the tensors to optimise, the loss and further terms."""

    def __init__(self, settings: Inversion, problem: Problem, runtime: Runtime):
        self.settings, self.problem, self.runtime = settings, problem, runtime
        self.history = History(settings.history, norm_channels(problem.teacher.network))

    def __call__(
        self,
        leaves: ParamsT,
        render: Render,
        match: Match,
        terms: Terms = lambda images, view, logits: (),
        *,
        view: Callable[[Tensor], Tensor] = lambda images: images,
        teacher: Callable[[Tensor], Tensor] | None = None,
        steps: int | None = None,
        after: Callable[[], object] = lambda: None,
    ) -> Tensor:
        """Optimise `leaves`, tensors or Adam's groups of them; the best images seen, [B, C, H, W], detached, as rendered.

        `view` is how the networks see the images in each step. The loss is `cross_entropy` x `match` + `statistics` x
        distance + `terms`, each computed only where its weight is not zero. With one loss an image each is the best of its
        own iterates, else the batch is that of the least loss. `teacher` and `steps` take the place of the problem's teacher
        and the settings' steps. `after` is called behind each step, to put leaves back where they may be, say; the leaves still
        hold that step's gradients. The student is in eval mode meanwhile and gets no gradients.
        """
        student, settings = self.problem.student, self.settings
        predict = teacher or self.problem.teacher

        def loss(images: Tensor) -> Tensor:
            viewed = view(images)
            with norm_statistics(self.problem.teacher.network, settings.statistics > 0) as norms, self.runtime.autocast():
                logits = predict(viewed)
            value = torch.zeros((), device=images.device)
            if settings.cross_entropy:
                value = settings.cross_entropy * match(logits.float())
            if settings.statistics:
                value = value + settings.statistics * statistics_distance(self.history.joined(norms), settings.scale_free)
            for term in terms(images, viewed, logits):
                value = value + term
            return value.view(-1)

        with frozen(student), evaluating(student):
            best, least = descend(leaves, render, loss, self.runtime, settings, steps or settings.steps, after)
        self.history.update()
        self.runtime.note("inversion_loss", least.mean())
        return best

    def state(self) -> dict[str, Stateful]:
        """What must survive a restart, by name."""
        return {"history": self.history} if self.settings.history else {}


def descend(
    leaves: ParamsT,
    render: Render,
    loss: Callable[[Tensor], Tensor],
    runtime: Runtime,
    settings: Inversion,
    steps: int,
    after: Callable[[], object] = lambda: None,
) -> tuple[Tensor, Tensor]:
    """Run Adam on `leaves`; returns the best images, [B, C, H, W], and their losses, [B] or [1], without device waits."""
    optimizer = torch.optim.Adam(leaves, settings.lr, settings.betas, fused=True)
    plateau, best, least = Plateau(settings.patience), None, None
    for _ in range(steps):
        with runtime.autocast():
            x = render()
        value = loss(x)
        with torch.no_grad():
            if best is None or least is None:
                best, least = x.detach().clone(), value.detach()
            better = value < least
            least = torch.where(better, value, least)
            best = torch.where(better.view(-1, 1, 1, 1), x, best)
        runtime.minimize(value.sum(), optimizer)  # a sum, so that an image's gradient does not depend on the batch size
        with torch.no_grad():
            after()
        if plateau.update(least.mean()):
            break
    assert best is not None
    assert least is not None
    return best, least


class Plateau:
    """Detects that a loss has stopped falling, one check late, so that nothing waits for the device.

    torch's ReduceLROnPlateau would wait, since it reads the loss at once. A check is made every `patience` updates; it is flat
    if the loss has fallen by less than the share `tolerance` since the check before.
    """

    def __init__(self, patience: int, tolerance: float = 1e-3):
        self.patience, self.tolerance = patience, tolerance
        self._updates = 0
        self._last: float | None = None
        self._pending: tuple[Tensor, torch.cuda.Event | None] | None = None

    def update(self, loss: Tensor) -> bool:
        """Add the scalar `loss`; returns whether the loss did not fall between the two checks before this one."""
        self._updates += 1
        if not self.patience or self._updates % self.patience:
            return False
        # All processes must stop in the same step, since the statistics of the whole batch need each of them.
        previous, self._pending = self._pending, _copy_to_cpu(mean_over_ranks(loss.detach()))
        if previous is None:
            return False
        value, event = previous
        if event is not None:
            event.synchronize()  # recorded `patience` steps ago, so this does not wait
        last, self._last = self._last, float(value)
        return last is not None and last - self._last < self.tolerance * max(abs(last), 1e-12)


def _copy_to_cpu(value: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Start a copy of `value` to the CPU; returns the copy and, on a GPU, the event at which it is complete."""
    if value.device.type != "cuda":
        return value.clone(), None
    copied, event = value.to("cpu", non_blocking=True), torch.cuda.Event()
    event.record()
    return copied, event
