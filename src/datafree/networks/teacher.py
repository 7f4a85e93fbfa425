"""The teacher that methods use: a frozen copy that counts its queries and can be read inside."""

import copy
from functools import cached_property

from torch import Tensor, nn

from datafree.core.modes import fastest_layout
from datafree.core.runtime import Runtime
from datafree.core.spec import InputSpec
from datafree.networks.folding import fold_batch_norms
from datafree.networks.outputs import logits_of, noise_for


class Teacher(nn.Module):
    """A frozen copy of the user's teacher, which itself is never changed; counts the images passed through it.

    `teacher(x)` returns logits [B, classes] or [B, classes, H, W] for x [B, C, H, W] in network units; the layers of
    `teacher.network` can be read during the call. `teacher.fast(x)` returns the same logits up to rounding, faster: its batch
    norms are folded into convolutions where possible, and it is compiled if the run uses torch.compile. In both, gradients
    flow to x but not to the weights. The teacher is always in eval mode.
    """

    def __init__(self, network: nn.Module, inputs: InputSpec, runtime: Runtime):
        super().__init__()
        self.network = fastest_layout(copy.deepcopy(network).to(runtime.device)).requires_grad_(False)
        self.inputs, self.runtime = inputs, runtime
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.runtime.counters.teacher_queries += len(x)
        return logits_of(self.network(x))  # type: ignore[return-value]

    def fast(self, x: Tensor, readable: bool = False) -> Tensor:
        """Logits for x from the folded network; with `readable` it is not compiled, so that layers of `folded` can be read."""
        self.runtime.counters.teacher_queries += len(x)
        return logits_of((self.folded if readable else self._compiled)(x))  # type: ignore[return-value]

    def fold(self) -> None:
        """Create `folded` now rather than at its first use: a layer that has a hook at that time is not folded."""
        self.folded  # noqa: B018

    @cached_property
    def folded(self) -> nn.Module:
        """The network with its foldable batch norms folded; `network` itself if there is none."""
        return fold_batch_norms(self.network, noise_for(self.network, self.inputs))

    @cached_property
    def _compiled(self) -> nn.Module:
        return self.runtime.compiled(self.folded)

    def train(self, mode: bool = True) -> "Teacher":
        super().train(False)
        return self
