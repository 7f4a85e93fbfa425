"""DFAD, beyond what every method must do."""

import pytest
import torch
from conftest import INPUTS, network
from torch import Tensor

from datafree.method import Problem, Teacher
from datafree.methods.dfad import DFAD, Adversary
from datafree.runtime import Runtime
from datafree.textures import dead_leaves


def adversary(**settings: object) -> Adversary:
    runtime = Runtime("cpu")
    with runtime.seeded():
        problem = Problem(Teacher(network(1).module, runtime), network(2).module.train(), INPUTS, 10)
        return DFAD(latent=8, width=8, batch=8, **settings).start(problem, runtime)  # type: ignore[arg-type]


def moved(made: Adversary, n: int) -> tuple[bool, Tensor]:
    """Whether the generator took a step, and the images."""
    before = [weight.clone() for weight in made.generator.parameters()]
    x = made.synthesize(n).x
    return any(not torch.equal(a, b) for a, b in zip(before, made.generator.parameters(), strict=True)), x


@pytest.mark.parametrize(("share", "leaves"), [(0.0, 0), (0.5, 10), (0.25, 5), (1.0, 20)])
def test_a_share_of_the_images_are_dead_leaves(share: float, leaves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(n: int, shape: tuple[int, int, int], runtime: Runtime) -> Tensor:
        asked.append(n)
        return torch.full((n, *shape), 0.5)

    monkeypatch.setattr("datafree.methods.dfad.dead_leaves", counted)
    stepped, x = moved(adversary(leaves=share), 20)
    gray = INPUTS.to_network(torch.full((1, *INPUTS.shape), 0.5))
    found = (x == gray).flatten(1).all(1)
    assert (sum(asked), int(found.sum()), len(x)) == (leaves, leaves, 20)
    assert stepped == (share < 1)
    if 0 < share < 1:  # mixed, so that every step of the student sees both
        assert found[: 20 - leaves].any()


def test_dead_leaves_come_in_network_units() -> None:
    _, x = moved(adversary(leaves=1.0), 30)
    pixels = INPUTS.to_unit(x)
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    assert pixels.std() > 0.1
    assert dead_leaves(3, INPUTS.shape, Runtime("cpu")).shape == (3, *INPUTS.shape)
