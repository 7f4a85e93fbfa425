"""A blend: its images are its host's and procedural ones, everything else is its host's."""

from pathlib import Path

import pytest
import torch
from helpers import INPUTS, TINY, network
from torch import nn

from datafree import CSD, DFAD, STTSS, Blend, DeepInversion, Plan, Recipe, Stored, distill, synthesize
from datafree.core.runtime import Runtime
from datafree.engine.method import Method, Problem
from datafree.methods.blend import BlendSynthesizer
from datafree.networks.teacher import Teacher

GAME = DFAD(latent={"size": 8, "width": 8}, batch=8)
FAST = STTSS(inversion={"steps": 2, "batch": 5})


def blended(settings: Blend, module: nn.Module | None = None) -> BlendSynthesizer:
    runtime = Runtime("cpu")
    with runtime.seeded():
        problem = Problem(Teacher(module or network(1).module, INPUTS, runtime), network(2).module, INPUTS, 10)
        return settings.start(problem, runtime)  # type: ignore[return-value]


@pytest.mark.parametrize(("share", "drawn"), [(0.0, 0), (0.3, 6), (0.5, 10), (0.99, 19)])
def test_a_share_of_a_rounds_images_is_procedural(share: float, drawn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = blended(Blend(host=FAST, share=share))
    monkeypatch.setattr(made, "procedural", lambda n: torch.full((n, *INPUTS.shape), 7.0))
    batch = made.synthesize(20)
    found = (batch.x == 7.0).all(3).all(2).all(1)
    assert found.sum() == drawn
    if drawn == 10:
        assert 2 <= found[:10].sum() <= 8, "in random order"


def test_no_share_is_the_host_as_it_is() -> None:
    made, alone = blended(Blend(host=GAME, share=0)), blended(Blend(host=GAME, share=0)).host
    assert torch.equal(made.synthesize(8).x, alone.synthesize(8).x)


def test_logits_that_the_host_brings_stay_with_their_images(images: Path) -> None:
    made = blended(Blend(host=Stored(path=images, look={"temperature": 4}, cache=True), share=0.4))
    batch = made.synthesize(20)
    assert batch.logits is not None
    assert torch.allclose(batch.logits, made.teacher(batch.x), atol=1e-4)
    assert batch.y is None


def test_targets_that_no_loss_reads_are_dropped_and_others_stay_with_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    made = blended(Blend(host=FAST, share=0.4))
    assert made.synthesize(20).y is None
    made.reads_targets = True
    asked = []
    targets = made.host.synthesize

    def noting(n: int) -> object:
        asked.append(targets(n))
        return asked[-1]

    monkeypatch.setattr(made.host, "synthesize", noting)
    batch = made.synthesize(20)
    assert batch.y is not None
    own = batch.y.amax(1) == 1  # softened targets are never that sure
    assert own.sum() == 8
    assert torch.equal(batch.y[own].argmax(1), made.teacher(batch.x[own]).argmax(1))
    rows = [int((batch.x == x).all(3).all(2).all(1).nonzero()) for x in asked[0].x]
    assert torch.equal(batch.y[rows], asked[0].y)


@pytest.mark.parametrize("host", [GAME, FAST, DeepInversion(inversion={"steps": 2, "batch": 5})])
def test_the_loss_is_the_hosts(host: Method) -> None:
    made = blended(Blend(host=host))
    batch, state = made.synthesize(8), made.runtime.random.get_state()
    losses = []
    for each in (made, made.host):
        made.runtime.random.set_state(state)
        losses.append(each.loss(made.problem.student, batch).item())
    assert losses[0] == losses[1]


def test_what_the_host_trains_and_learns_from_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    made = blended(Blend(host=GAME))
    assert made.optimizers() == made.host.optimizers() != ()
    assert {name for name in made.state() if name.startswith("host.")} == {"host.generator", "host.optimizer"}
    assert "procedural.tally" in made.state()
    seen: list[object] = []
    csd = blended(Blend(host=CSD(warmup_images=0, inversion={"steps": 1, "batch": 4}, latent={"size": 8, "width": 8})))
    monkeypatch.setattr(csd.host, "at", seen.append)
    monkeypatch.setattr(csd.host, "on_student_batch", lambda *what: seen.append(what))
    csd.at(0.5)
    csd.on_student_batch(csd.problem.student, torch.zeros(1), torch.zeros(1))
    assert seen[0] == 0.5
    assert len(seen) == 2
    assert csd.preparation() == csd.host.preparation()


def test_a_blend_needs_a_student_where_its_host_does() -> None:
    assert Blend(host=GAME).adversarial
    assert not Blend(host=FAST).adversarial
    with pytest.raises(ValueError, match="depend on a student"):
        synthesize(network(1), Blend(host=GAME), 8, quiet=True, device="cpu")
    assert len(synthesize(network(1), Blend(host=FAST), 8, quiet=True, device="cpu")) == 8


def test_the_log_says_how_even_the_procedural_images_are(tmp_path: Path) -> None:
    plan = Plan(rounds=2, steps=1, batch=8, log_every=1, eval_every=0, grid_every=0)
    recipe = Recipe(Blend(host=GAME, procedural={"candidates": 2}), plan, "test")
    distill(network(1), TINY, recipe=recipe, out=tmp_path / "run", quiet=True, device="cpu")
    head = (tmp_path / "run" / "log.csv").read_text().splitlines()[0].split(",")
    assert {"class_entropy", "largest_class", "generator_gap"} <= set(head)
