"""One generator that is kept and trained over the whole run, and the fakes that it makes."""

from collections.abc import Callable, Iterable
from typing import final

import torch
from torch import Tensor, nn

from datafree.core.distributed import parallel, same_weights
from datafree.core.runtime import Runtime
from datafree.core.state import Stateful
from datafree.engine.method import Problem
from datafree.methods.common.generators import Latent


@final
class Fakes:
    """A generator with its Adam. It makes `batch` fakes in a pass, always in train mode, so its batch norm sees those together.

    The generator makes images in network units. Raises `ValueError` for sides that it cannot make.
    """

    def __init__(
        self,
        latent: Latent,
        batch: int,
        lr: float,
        problem: Problem,
        runtime: Runtime,
        betas: tuple[float, float] = (0.9, 0.999),
    ):
        self.latent, self.batch, self.shape, self.runtime = latent, batch, problem.inputs.shape, runtime
        self.generator = latent.build(self.shape, runtime)
        self._maker, self._learner = runtime.compiled(self.generator), runtime.compiled(parallel(self.generator))
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr, betas, fused=True)

    def noise(self, n: int | None = None) -> Tensor:
        """z [n, latent], standard normal; of a whole batch where no `n` is given."""
        return self.runtime.noise(self.batch if n is None else n, self.latent.size)

    def learned(self, z: Tensor) -> Tensor:
        """The fakes [B, C, H, W] of z [B, latent], through which gradients reach the generator."""
        return self._through(self._learner, z)

    @torch.no_grad()
    def images(self, z: Tensor) -> Tensor:
        """The fakes of z, without gradients; by CUDA graphs, only until the next call."""
        return self._through(self._maker, z)

    def fresh(self, n: int) -> Tensor:
        """n fakes of new noise, without gradients."""
        return self.in_passes(n, lambda size: self.images(self.noise(size)))

    def in_passes(self, n: int, make: Callable[[int], Tensor]) -> Tensor:
        """n images [n, C, H, W] that `make` gives, detached, `batch` at a time; the last time the rest."""
        x = torch.empty(n, *self.shape, device=self.runtime.device, memory_format=torch.channels_last)
        for part in x.split(self.batch):  # copied out one by one: a CUDA graph writes its next answer over it
            part.copy_(make(len(part)))
        return x

    def step(self, terms: Iterable[tuple[str, float, Tensor]]) -> None:
        """One Adam step down the weighted sum of `terms`: name for the log, weight, and a scalar, each."""
        weighted: list[Tensor] = []
        for name, weight, term in terms:
            self.runtime.note(name, term)
            weighted.append(weight * term)
        self.runtime.minimize(torch.stack(weighted).sum(), self.optimizer)

    def restart(self) -> None:
        """Begin anew with fresh weights, as where the images have collapsed."""
        self.generator.load_state_dict(self.latent.build(self.shape, self.runtime).state_dict())
        same_weights(self.generator)
        self.optimizer.state.clear()

    def state(self) -> dict[str, Stateful]:
        """What must survive a restart, by name."""
        return {"generator": self.generator, "optimizer": self.optimizer}

    def _through(self, generator: nn.Module, z: Tensor) -> Tensor:
        with self.runtime.autocast():
            return generator(z).float()  # type: ignore[no-any-return]
