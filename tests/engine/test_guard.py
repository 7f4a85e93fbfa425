"""A collapse is seen, and the method begins anew."""

import csv
from pathlib import Path

import pytest
import torch
from helpers import INPUTS, TINY, network
from torch import Tensor, nn

from datafree import DFAD, NAYER, Fast, Network, Plan, Recipe, distill
from datafree.core.runtime import Runtime
from datafree.engine.guard import Guard, Watch
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.dfad import DFADSynthesizer
from datafree.networks.teacher import Teacher


def watch(settings: Guard) -> tuple[Watch, Runtime]:
    runtime = Runtime("cpu")
    teacher = Teacher(network(1).module, INPUTS, runtime)
    return Watch(settings, Problem(teacher, network(2).module, INPUTS, 10)), runtime


def test_diverse_images_and_equal_ones_give_other_values() -> None:
    seen = []
    noise = torch.randn(64, *INPUTS.shape, generator=torch.Generator().manual_seed(0))
    for images in (noise, noise[:1].expand(64, -1, -1, -1)):
        each, runtime = watch(Guard(every=1))
        each.look(images, 0)
        seen.append(runtime.drain())
    assert seen[0]["round_distance"] == pytest.approx(2**0.5, rel=0.1)
    assert seen[1]["round_distance"] == 0
    assert seen[0]["round_entropy"] > seen[1]["round_entropy"] == 0


def test_only_a_lasting_collapse_asks_for_a_new_beginning_and_not_for_ever() -> None:
    each, _ = watch(Guard(every=1, patience=2, restarts=2))
    bad, good = ({"round_entropy": entropy, "round_distance": 1.0} for entropy in (0.0, 0.9))
    assert [each.collapsed(values) for values in (bad, good, bad, bad, bad, bad, bad, bad)] == [
        False, False, False, True, False, True, False, False,
    ]  # fmt: skip
    assert not each.collapsed({}), "nothing was looked at"
    again, _ = watch(Guard(every=1, patience=2, restarts=2))
    again.load_state_dict(each.state_dict())
    assert again.restarts == 2


SERVED = {"batch": 10, "steps": 2}
KEPT = [
    DFAD(latent={"size": 8, "width": 8}, batch=8),
    Fast(inversion=SERVED, latent={"size": 8, "width": 8}),
    NAYER(inversion=SERVED, latent={"size": 8, "width": 8}),
]


@pytest.mark.parametrize("settings", KEPT, ids=lambda settings: settings.name)
def test_methods_that_keep_a_generator_begin_anew(settings: Method, taught: Network) -> None:
    runtime = Runtime("cpu")
    inputs = taught.card.inputs
    with runtime.seeded():
        student = network(2, TINY, inputs).module
        made = settings.start(Problem(Teacher(taught.module, inputs, runtime), student, inputs, 10), runtime)
        made.synthesize(10)
        old = [weight.clone() for weight in weights_of(made) if weight.dim() > 1]
        assert made.restart()
        new = [weight for weight in weights_of(made) if weight.dim() > 1]
        assert not any(torch.equal(one, other) for one, other in zip(old, new, strict=True))
        if "history" in made.state():
            assert made.state()["history"].state_dict() == {"averages": {}}
        assert made.synthesize(10).x.isfinite().all()


def weights_of(made: Synthesizer) -> list[Tensor]:
    generator = made.state()["generator"]
    assert isinstance(generator, nn.Module)
    return list(generator.parameters())


def test_a_collapsed_run_restarts_its_method_and_the_log_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    monkeypatch.setattr(DFADSynthesizer, "restart", lambda self: begun.append(1) or True)
    guard = Guard(every=1, least_entropy=1.0, least_distance=100, patience=2, restarts=1)  # whatever it makes
    plan = Plan(rounds=6, steps=1, batch=8, log_every=1, save_every=3, eval_every=0, grid_every=0, guard=guard)
    recipe = Recipe(DFAD(latent={"size": 8, "width": 8}, batch=8), plan, "test")
    distill(network(1), TINY, recipe=recipe, out=tmp_path / "run", device="cpu", quiet=True)
    assert len(begun) == 1
    with (tmp_path / "run" / "log.csv").open() as log:
        assert [row["restarts"] for row in csv.DictReader(log)] == ["", "1", "", "", "", ""]
