"""What the tests share: a tiny teacher on 8x8 inputs, where the real data lies, and processes that start at once."""

import faulthandler
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp

from datafree import Card, InputSpec, Network, build
from datafree.cli import main

SHARED = Path(__file__).parents[2] / "shared" / "data"
INPUTS = InputSpec(shape=(1, 8, 8), mean=(0.3,), std=(0.4,))
TINY = "small-cnn-quarter"
WORLD = 2  # processes of the tests of several

# A process that loads torch starts in seconds; one forked from a server that has loaded it starts in a tenth of a second. A
# fork copies one thread only, so the server may have no other: numpy starts as many as this when it is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pytest", "torch._dynamo", "datafree.cli.distill", "datafree.cli.synthesize"])


def network(seed: int, architecture: str = TINY, inputs: InputSpec = INPUTS, classes: int = 10) -> Network:
    """A fresh network of that seed with a card, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build(architecture, inputs, classes).eval()
    return Network(module, Card(architecture=architecture, classes=classes, inputs=inputs))


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def noise_images() -> torch.Tensor:
    """Twelve images of noise [12, 1, 8, 8], always the same."""
    return torch.randn(12, *INPUTS.shape, generator=torch.Generator().manual_seed(3))


def stored_images(folder: Path) -> Path:
    """A file of forty labelled 8x8 images, four a class."""
    rng = np.random.default_rng(0)
    path = folder / "images.npz"
    np.savez(path, images=rng.integers(0, 256, (40, 8, 8), dtype=np.uint8), labels=np.arange(40) % 10)
    return path


def start(job: Callable[..., object], *arguments: object, streams: Path) -> BaseProcess:
    """A process that runs `job` and writes its output and errors to the file `streams`; it ends with the status it returns."""
    process = FORKS.Process(target=_redirected, args=(job, arguments, streams))
    process.start()
    return process


def start_command(*line: object, streams: Path) -> BaseProcess:
    """`datafree LINE` in a process."""
    return start(main, [str(word) for word in line], streams=streams)


def status(process: BaseProcess, seconds: float = 120) -> int | None:
    """The exit status of a process, once it has ended: that of a killed one is minus the signal's number."""
    process.join(seconds)
    return process.exitcode


def both(job: Callable[[Path], Any], out: Path, start_method: str = "forkserver") -> list[Any]:
    """What `job(out)` returns in either of two processes that work together, by gloo."""
    out.mkdir(exist_ok=True)
    mp.start_processes(_rank, (free_port(), job, out), nprocs=WORLD, start_method=start_method)
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


def _rank(rank: int, port: int, job: Callable[[Path], Any], out: Path) -> None:
    """One of the processes that torchrun would start: what `job` returns there lies in `out/RANK.pt`."""
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": WORLD, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in where.items()}
    faulthandler.enable()  # a process that aborts says where it was
    torch.set_num_threads(1)
    torch.save(job(out), out / f"{rank}.pt")


def _redirected(job: Callable[..., object], arguments: tuple[object, ...], streams: Path) -> None:
    with streams.open("wb") as file:
        for standard in (1, 2):
            os.dup2(file.fileno(), standard)
    torch.set_num_threads(1)
    sys.exit(job(*arguments))
