"""The teacher as methods see it: a frozen private copy, which answers, counts what it is asked, and can be read inside."""

import copy
from functools import cached_property

from torch import Tensor, nn

from datafree.core.modes import fastest_layout
from datafree.core.runtime import Runtime
from datafree.core.spec import InputSpec
from datafree.networks.folding import folded
from datafree.networks.outputs import logits_of, noise_for


class Teacher(nn.Module):
    """A frozen private copy of the user's teacher, which is never touched; counts the images it is asked about.

    `teacher(x)` answers x [B, C, H, W] with logits [B, classes] or [B, classes, H, W], and `network` can be read inside
    meanwhile. `teacher.fast(x)` is equal up to rounding and faster: batch norms are folded into convolutions where that can
    be done, and torch.compile runs it where the run asked for that. Gradients pass through both to x, none are kept for the
    weights, and both stay in eval mode whatever is said.
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
        """The answer to x, by `folded`; `readable`: never compiled, so that taps see inside of `folded`."""
        self.runtime.counters.teacher_queries += len(x)
        return logits_of((self.folded if readable else self._compiled)(x))  # type: ignore[return-value]

    def fold(self) -> None:
        """Make `folded` now rather than when it is first needed: a layer that is tapped then would not be folded."""
        self.folded  # noqa: B018

    @cached_property
    def folded(self) -> nn.Module:
        """The network without the batch norms that could be folded; the network itself where none could."""
        return folded(self.network, noise_for(self.network, self.inputs))

    @cached_property
    def _compiled(self) -> nn.Module:
        return self.runtime.compiled(self.folded)

    def train(self, mode: bool = True) -> "Teacher":
        super().train(False)
        return self
