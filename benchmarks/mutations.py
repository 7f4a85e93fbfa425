"""Spoilt inputs of every kind from a seed, each with the line of `datafree` to run on it, and the whole ones they are made of.

The same seed spoils the same thing in the same way, so that a case can be repeated.
"""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import torch._dynamo  # noqa: F401 - once, here, rather than in each fork
from fingerprints import BN
from mutations_data import DATA
from mutations_networks import NETWORKS, TIMM_RESNET, TIMM_VIT, TORCHVISION
from mutations_runs import FINISHED, FOLDERS, RUNS, STOPPED
from mutations_students import STUDENTS
from mutations_weights import WEIGHTS_AND_SETS
from reliability_kills import Ground, forkserver, inputs, lines

from datafree import Card, InputSpec, Network, build
from datafree.cli import distill, synthesize  # noqa: F401
from datafree.engine.folder import RunDir

KINDS = NETWORKS | WEIGHTS_AND_SETS | DATA | RUNS | STUDENTS
SHARDED = f"synthesize {BN} --recipe deepinversion-cifar10 --n 16 --batch 8 --method.inversion.steps 2 --out shards.safetensors"
SHARDED += " --device cpu"
# Networks of other packages: file, architecture, side of the input.
OTHERS = (
    (TIMM_RESNET, "timm:test_resnet", 32),
    (TIMM_VIT, "timm:test_vit", 160),
    (TORCHVISION, "torchvision.models:squeezenet1_1", 64),
)


@dataclass(frozen=True)
class Mutation:
    """A line to run in the folder where something was spoilt."""

    seed: int
    kind: str
    what: str  # what was spoilt, for a person
    line: str  # without `datafree`


def mutated(seed: int) -> Mutation:
    """Spoil something in the current folder, which holds links to the whole inputs; successive seeds take successive kinds."""
    kind = list(KINDS)[seed % len(KINDS)]
    what, line = KINDS[kind](Random(seed))
    return Mutation(seed, kind, what, line)


@contextlib.contextmanager
def whole() -> Iterator[Path]:
    """A folder with the inputs that `mutated` spoils: networks, sets, weights, data, and runs that were stopped."""
    with inputs([*FOLDERS, "pack", "dfad-segmentation", "export-npz"]) as there, forkserver().Pool(1) as pool:
        pool.apply(_make, (there,))  # in a process without threads, since it forks
        yield there


def _make(there: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        ground = Ground(there, Path(scratch).resolve() / "ground")
        ground.clear()
        for number in (1, 2):
            assert ground.run(f"{SHARDED} --shard {number}/2")[0] == 0, ground.said()
        made = {path: there / path.name for path in ground.folder.glob("shards-*")}
        for path, kept in made.items():
            shutil.move(path, kept)
        for name, folder in STOPPED.items():
            _stop(ground, name)
            shutil.copytree(ground.folder / FOLDERS[name], there / folder)
        ground.clear()
        assert ground.run(lines(["dfad"])["dfad"])[0] == 0, ground.said()
        shutil.copytree(ground.folder / "dfad", there / FINISHED)
    for file, architecture, side in OTHERS:
        options = {"num_classes": 10} if ":" in architecture and not architecture.startswith("timm:") else {}
        spec = InputSpec(shape=(3, side, side), mean=(0.5,), std=(0.2,))
        card = Card(architecture=architecture, options=options, classes=10, inputs=spec)
        Network(build(architecture, spec, 10, options, ("torchvision",)), card).save(there / file)


def _stop(ground: Ground, name: str) -> None:
    """Run a line until it has saved for the first time, and kill it there."""
    save = RunDir.save

    def dying(*arguments: Any) -> None:
        save(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    ground.clear()
    with mock.patch.object(RunDir, "save", dying):
        assert ground.run(lines([name])[name])[0] == -signal.SIGKILL, ground.said()
