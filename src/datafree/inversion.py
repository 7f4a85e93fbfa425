"""Gradient descent on images: the loop that every inversion shares."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from datafree.modes import fastest_layout
from datafree.nets.generators import UpsampleGenerator, dcgan_start
from datafree.ranks import mean_over_ranks
from datafree.runtime import Runtime

Render = Callable[[], Tensor]  # the images [B, C, H, W] as the leaves now make them
Loss = Callable[[Tensor], Tensor]  # of those images: one value an image [B], or one for all [1]


def invert(
    leaves: Sequence[Tensor],
    render: Render,
    loss: Loss,
    runtime: Runtime,
    *,
    steps: int,
    lr: float,
    momentum: tuple[float, float],
    patience: int = 0,
    after: Callable[[], object] = lambda: None,
) -> tuple[Tensor, Tensor]:
    """Adam on `leaves`; returns the best images seen, [B, C, H, W], and their losses, [B] or [1].

    With one loss an image each is the best of its own iterates, else the batch is that of the least loss. `after` is called
    behind each step, to put leaves back where they may be, say. It stops early when the least losses' mean is flat over
    `patience` steps (0: never). Nothing waits for the device.
    """
    optimizer = torch.optim.Adam(leaves, lr, momentum, fused=True)
    plateau, best, least = Plateau(patience), None, None
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
        runtime.minimize(value.sum(), optimizer)  # a sum: an image does not depend on its batch
        with torch.no_grad():
            after()
        if plateau.update(least.mean()):
            break
    assert best is not None
    assert least is not None
    return best, least


def fresh_generator(shape: tuple[int, int, int], latent: int, width: int, runtime: Runtime) -> nn.Module:
    """A generator of [0, 1] pixels that nothing has trained yet, its weights from the run's own random numbers.

    CMI and CSD make one for each batch. Raises `ValueError` for sides that are not multiples of 4.
    """
    made = UpsampleGenerator(shape, latent, width, pixels=True).to(runtime.device)
    return fastest_layout(dcgan_start(made, runtime.random)).train()


class Plateau:
    """Tells whether a loss has stopped falling, one check late, so that the device is not waited for.

    A check is made every `patience` updates; flat means a fall by less than `tolerance` of the loss's size since the last.
    """

    def __init__(self, patience: int, tolerance: float = 1e-3):
        self.patience, self.tolerance = patience, tolerance
        self._updates = 0
        self._last: float | None = None
        self._asked: tuple[Tensor, torch.cuda.Event | None] | None = None

    def update(self, loss: Tensor) -> bool:
        """Hear of the scalar `loss`; True where the two checks before this one were flat."""
        self._updates += 1
        if not self.patience or self._updates % self.patience:
            return False
        # Statistics of the global batch need every process in every step, so all must stop together.
        answer, self._asked = self._asked, _sent(mean_over_ranks(loss.detach()))
        if answer is None:
            return False
        value, event = answer
        if event is not None:
            event.synchronize()  # recorded `patience` steps ago, so long past
        last, self._last = self._last, float(value)
        return last is not None and last - self._last < self.tolerance * max(abs(last), 1e-12)


def _sent(value: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A copy of `value` on its way to the CPU, and the event that tells when it is there."""
    if value.device.type != "cuda":
        return value.clone(), None
    copied, event = value.to("cpu", non_blocking=True), torch.cuda.Event()
    event.record()
    return copied, event
