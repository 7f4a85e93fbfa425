"""One run by two processes that work together, by gloo, as torchrun starts them."""

import csv
import json
import os
import signal
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from helpers import TINY, WORLD, both, free_port, network, noise_images
from torch import Tensor, nn

from datafree import distill
from datafree.cli import main
from datafree.core.distributed import launch_rank, parallel, process_group
from datafree.core.runtime import Runtime
from datafree.engine.folder import RunDir
from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.common.losses import negative_entropy
from datafree.methods.csd import CSD
from datafree.methods.dda import DDA
from datafree.methods.fast import Fast
from datafree.methods.stored import Stored
from datafree.networks.saved.weights import fingerprint
from datafree.recipes import find_recipe


def recipe(rounds: int = 6) -> Recipe:
    """DFAD's demo made small, with every part that a restart must bring back."""
    found = find_recipe("dfad-digits")
    small = {"rounds": rounds, "steps": 2, "batch": 16, "pool_size": 32, "log_every": 1, "save_every": 2}
    return replace(found, method=found.method.replaced(**{"batch": 16}), plan=found.plan.model_copy(update=small))


def run(out: Path) -> str:
    return fingerprint(distill(network(1), TINY, recipe=recipe(), out=out / "run", device="cpu", quiet=True))


class Killed:
    """`run`, in which one process is killed with the given save, before or after it writes its part of it."""

    def __init__(self, rank: int, save: int, before: bool):
        self.rank, self.save, self.before = rank, save, before

    def __call__(self, out: Path) -> str:
        whole, broken = RunDir.save, self

        def save(self: RunDir, *arguments: Any) -> None:
            mine = launch_rank()[0] == broken.rank and self.saves + 1 == broken.save
            if mine and broken.before:
                os.kill(os.getpid(), signal.SIGKILL)
            whole(self, *arguments)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)

        RunDir.save = save  # type: ignore[method-assign,assignment]
        return run(out)


def whole_run(out: Path) -> dict[str, Any]:
    """What either process ends with, and, to start no more processes than needed, what else is to be known of two."""
    with process_group(torch.device("cpu")):
        found = {"student": run(out), "gradients": gradients(), "noise": Runtime("cpu").noise(4), "balance": balance()}
        group = weakref.ref(dist.group.WORLD)
    return found | {"gone": group() is None}


def gradients() -> list[Tensor | None]:
    """Those that this process's part of the images gives the weights of `plain`."""
    module, x = plain(), noise_images().chunk(WORLD)[launch_rank()[0]]
    learner = parallel(module)  # which has to live until the gradients are there
    F.cross_entropy(learner(x), x[:, 0, 0, :4].argmax(1)).backward()
    return [weight.grad for weight in module.parameters()]


def balance() -> list[Tensor | None]:
    """The negative entropy of what `plain` answers to this process's part of the images, then the gradients."""
    module, x = plain(), noise_images().chunk(WORLD)[launch_rank()[0]]
    learner = parallel(module)
    loss = negative_entropy(5 * learner(x))
    loss.backward()
    return [loss.detach(), *(weight.grad for weight in module.parameters())]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of an unbroken run, and what its processes found."""
    out = tmp_path_factory.mktemp("whole")
    # Processes that have loaded nothing, as torchrun's: what is loaded while the group stands may keep it for good.
    return out / "run", both(whole_run, out, start_method="spawn")


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))


def test_one_run_of_two_processes(whole: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, (first, second) = whole
    found = json.loads((folder / "run.json").read_text())
    assert first["student"] == second["student"] == found["student"]["sha256"]
    assert found["identity"]["processes"] == WORLD
    assert first["gone"], "the group has threads while it lives, and they abort a process that ends"
    assert second["gone"]
    assert found["results"]["images"] == 6 * 2 * 16  # of both
    with (folder / "log.csv").open() as log:
        assert [row["round"] for row in csv.DictReader(log)] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize(("rank", "before"), [(0, True), (1, False)])
def test_a_kill_of_either_process_changes_nothing(
    tmp_path: Path, whole: tuple[Path, list[dict[str, Any]]], rank: int, before: bool
) -> None:
    with pytest.raises(mp.ProcessExitedException):  # type: ignore[attr-defined]
        both(Killed(rank, 2, before), tmp_path)
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    assert not (tmp_path / "run" / "student.safetensors").exists()
    assert both(run, tmp_path) == [found["student"] for found in whole[1]]


def test_gradients_are_those_of_the_global_batch_and_noise_is_each_processes_own(
    whole: tuple[Path, list[dict[str, Any]]],
) -> None:
    first, second = whole[1]
    module, x = plain(), noise_images()
    F.cross_entropy(module(x), x[:, 0, 0, :4].argmax(1)).backward()
    for weight, one, two in zip(module.parameters(), first["gradients"], second["gradients"], strict=True):
        assert torch.equal(one, two)
        assert weight.grad is not None
        assert torch.allclose(weight.grad, one, atol=1e-6)
    assert not torch.equal(first["noise"], second["noise"])
    assert torch.equal(first["noise"], Runtime("cpu").noise(4))  # the main process draws what one alone would


def test_the_balance_of_classes_is_that_of_the_global_batch(whole: tuple[Path, list[dict[str, Any]]]) -> None:
    module = plain()
    loss = negative_entropy(5 * module(noise_images()))
    loss.backward()
    expected = [loss.detach(), *(weight.grad for weight in module.parameters())]
    for found in whole[1]:
        for value, seen in zip(expected, found["balance"], strict=True):
            assert value is not None
            assert torch.allclose(value, seen, atol=1e-6)
    apart = [negative_entropy(5 * module(x)) for x in noise_images().chunk(WORLD)]
    assert abs(sum(apart) / WORLD - loss) > 1e-3, "the mean of the parts' balances is something else"


def inverted(out: Path) -> str:
    """Hosts whose statistics are of the global batch, a head of the student's, a diffusion model: all that is shared."""
    host = CSD(
        inversion={"batch": 8, "steps": 2, "patience": 1}, warmup_images=8, warmup_steps=2, latent={"width": 8, "size": 8}
    )
    method = DDA(host=host, bank=16, batch=8, variations=1, sources=24, same_class=False, omega=-1.0)
    method = method.replaced(**{"diffusion": method.diffusion.model_copy(update=TINY_DIFFUSION)})
    plan = Plan(rounds=3, warmup=1, images_per_round=8, pool_size=64, steps=2, batch=8, log_every=1, save_every=1, eval_every=0)
    return fingerprint(
        distill(network(1), TINY, recipe=Recipe(method, plan, "test"), out=out / "run", device="cpu", quiet=True)
    )


TINY_DIFFUSION = {"updates": 2, "batch": 4, "width": 8, "steps": 2}


def test_dda_around_csd_by_two_processes(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="DDA's diffusion model needs the diffusers package")
    first, second = both(inverted, tmp_path)
    assert first == second
    results = json.loads((tmp_path / "run" / "run.json").read_text())["results"]
    assert results["variations"] == 8  # each process deals 12 images: its bank of 8, then 4 of its variations
    state = [torch.load(tmp_path / "run" / name, weights_only=True)["parts"] for name in checkpoints(tmp_path / "run")]
    for part in ("student", "method.host.head", "method.align", "method.diffuser.network"):
        for name, one in state[0][part].items():  # what the align head's norms remember is each process's own
            own = part == "method.align" and "running" in name
            assert own or torch.equal(one, state[1][part][name]), f"{part}.{name}"
    assert not torch.equal(state[0]["pool"]["pixels"], state[1]["pool"]["pixels"])


def meta_learned(out: Path) -> str:
    """Fast-Datafree, whose kept generator takes a step after each batch and is reset on the way."""
    method = Fast(inversion={"batch": 8, "steps": 2}, latent={"width": 8, "size": 8}, reset_first_layer_at=0.5)
    plan = Plan(rounds=4, images_per_round=8, pool_size=64, steps=2, batch=8, log_every=1, save_every=1, eval_every=0)
    return fingerprint(
        distill(network(1), TINY, recipe=Recipe(method, plan, "test"), out=out / "run", device="cpu", quiet=True)
    )


def test_the_generator_that_fast_keeps_is_the_same_in_two_processes(tmp_path: Path) -> None:
    first, second = both(meta_learned, tmp_path)
    assert first == second
    state = [torch.load(tmp_path / "run" / name, weights_only=True)["parts"] for name in checkpoints(tmp_path / "run")]
    assert len(state) == WORLD
    for name, one in state[0]["method.generator"].items():
        assert torch.equal(one, state[1]["method.generator"][name]), name
    assert not torch.equal(state[0]["pool"]["pixels"], state[1]["pool"]["pixels"])


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint*.pt"))


def test_a_batch_that_cannot_be_dealt_out_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datafree.core.distributed.world_size", lambda: 3)
    with pytest.raises(ValueError, match=r"--plan.batch 512 cannot be split evenly over 3 processes"):
        Recipe(Stored(path=Path("set")), Plan(batch=512), "test").per_process()
    with pytest.raises(ValueError, match=r"--method.inversion.batch 256 cannot be split evenly over 3 processes"):
        find_recipe("deepinversion-cifar10").per_process()
    host = CSD(inversion={"batch": 9}, warmup_images=30)
    method = DDA(host=host, bank=12, batch=6, sources=9, diffusion={"batch": 3})
    dealt = Recipe(method, Plan(batch=6), "test").per_process()
    assert dealt.method == DDA(
        host=CSD(inversion={"batch": 3}, warmup_images=10), bank=4, batch=2, sources=3, diffusion={"batch": 1}
    )
    assert dealt.plan == Plan(batch=2)


def test_torchrun_and_the_command_line(tmp_path: Path, teacher_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one test that starts torchrun itself: the others start what it would."""
    small = "--plan.steps 2 --plan.batch 16 --method.batch 16"
    flags = f"--student {TINY} --recipe dfad-digits {small} --budget 2s --device cpu --out {tmp_path / 'run'}"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    line = ["distill", str(teacher_file), *flags.split()]
    done = subprocess.run([*launcher, "-m", "datafree.cli", *line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished:") == 1
    assert main(line) == 1
    assert "processes is 2 there and 1 here" in capsys.readouterr().err


def test_several_processes_need_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="name one with out"):
        distill(network(1), TINY, recipe="dfad-digits")
