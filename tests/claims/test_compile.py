"""Runs by torch.compile: the same student up to rounding, and refusals in words."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import TINY, network
from torch import Tensor, nn

from datafree import (
    CMI,
    CSD,
    DAFL,
    DDA,
    DFAD,
    DFQ,
    NAYER,
    STTSS,
    ZSKT,
    Augmentation,
    DeepInversion,
    Fast,
    Plan,
    Recipe,
    distill,
    dry_run,
)
from datafree.core.runtime import Runtime, check_compiler
from datafree.engine.method import Method

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's own, which it means to hide
METHOD = DFAD(latent={"size": 8, "width": 8}, batch=4)
PLAN = Plan(rounds=3, steps=2, batch=8, lr=0.05, log_every=1, eval_every=0, grid_every=0, ema_decay=0.5)


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    """Where there is none, there is nothing to test."""
    try:
        check_compiler(Runtime("cpu", compile="default"))
    except ValueError as error:
        pytest.skip(str(error))


def student(compile: str, out: Path | None = None, method: Method = METHOD) -> nn.Module:
    recipe = Recipe(method, PLAN, "test")
    return distill(network(1), TINY, recipe=recipe, out=out, device="cpu", quiet=True, compile=compile)  # type: ignore[arg-type]


def calls_of(compiled: list[str]) -> Callable[..., nn.Module]:
    """torch.compile, noting what it is given."""
    real = torch.compile

    def noting(module: nn.Module, **how: object) -> nn.Module:
        compiled.append(type(module).__name__)
        return real(module, **how)  # type: ignore[call-overload, no-any-return]

    return noting


def test_teacher_student_and_generator_are_compiled_and_the_student_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, compiled = student("off"), []
    monkeypatch.setattr(torch, "compile", calls_of(compiled))
    fast = student("default")
    assert compiled.count("UpsampleGenerator") == 2, "where it makes fakes, and where it learns"
    assert compiled.count(type(plain).__name__) == 3, "the teacher, the student in its steps, and in the generator's"
    assert type(fast) is type(plain)
    assert list(fast.state_dict()) == list(plain.state_dict())
    one, other = (torch.cat([weight.detach().flatten() for weight in each.parameters()]) for each in (plain, fast))
    start = torch.cat([weight.detach().flatten() for weight in network(0).module.parameters()])
    assert (one - other).norm() < 1e-3 * (one - start).norm()


def test_a_compiled_run_resumes_to_the_bit() -> None:
    dry_run(network(1), TINY, Recipe(METHOD, PLAN, "test"), device="cpu", quiet=True, compile="default")


@pytest.mark.parametrize(
    "method",
    [
        CMI(
            inversion={"steps": 2, "batch": 4},
            latent={"size": 8, "width": 8},
            memory_size=12,
            negatives=6,
            views=Augmentation(crop=1),
        ),
        DeepInversion(inversion={"steps": 2, "batch": 4}, adaptive=1.0, roll=1),
        Fast(inversion={"steps": 2, "batch": 4}, latent={"size": 8, "width": 8}, adversary={"weight": 1.0}),
        NAYER(inversion={"steps": 2, "batch": 4}, latent={"size": 8, "width": 8}, adversary={"weight": 1.0}),
        STTSS(inversion={"steps": 2, "batch": 4}),
        DAFL(latent={"size": 8, "width": 8}, batch=4),
        DFQ(latent={"size": 8, "width": 8}, batch=4),
        ZSKT(latent={"size": 8, "width": 8}, batch=8, reuses=2, attention=0),
        DFAD(latent={"size": 8, "width": 8}, batch=4, statistics=1.0),
    ],
)
def test_methods_that_read_inside_the_teacher_alone_can_be_compiled(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **how: real(module, backend="eager"))  # what is captured, unoptimised
    one, other = (student(each, method=method).state_dict() for each in ("off", "default"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_folder_of_a_run_without_it_is_refused(tmp_path: Path) -> None:
    student("off", tmp_path / "run")
    with pytest.raises(ValueError, match="compile is off there and default here"):
        student("default", tmp_path / "run")


@pytest.mark.parametrize(
    "method",
    [
        CSD(warmup_images=0, inversion={"steps": 2, "batch": 4}),
        DDA(host=DeepInversion(inversion={"steps": 2, "batch": 4}), bank=8, batch=4),
        ZSKT(latent={"size": 8, "width": 8}, batch=8, reuses=2),
    ],
)
def test_methods_that_read_inside_the_student_say_so(method: Method) -> None:
    with pytest.raises(ValueError, match=r"reads values inside the student.*leave out --compile"):
        student("default", method=method)


def test_where_it_does_not_work_the_words_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(module: nn.Module, **how: object) -> Callable[[Tensor], Tensor]:
        def fail(x: Tensor) -> Tensor:
            raise RuntimeError("No working C++ compiler found\nand a long trace")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ValueError, match=r"does not work here \(No working C\+\+ compiler found\); leave out --compile"):
        student("default")
