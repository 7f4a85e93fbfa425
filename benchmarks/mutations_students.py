"""Students asked for in words of any kind, and cards that say how networks were made smaller, each with its line."""

import json
import shlex
from pathlib import Path
from random import Random
from typing import Any

from fingerprints import BN
from mutation_archives import relabelled
from mutation_ways import NUMBERS, STRANGE, put
from mutations_networks import CARD, TIMM_RESNET, TIMM_VIT, read
from reliability_kills import TINY, WEIGHTS

SIZES = (
    "2x 2x-compute 3x-pruned 2x-compute-pruned 1ms 1ms@8 4kB 4kB-pruned 0x 1x 0.1x 99999999x 4 4xx 2x-pruned-pruned 1ms-pruned "
    "0.0000001ms 5ms@0 5ms@99999 1e9x 4x,width=3 ²x 999999999MB 0MB"
).split()
NAMES = (
    "small-cnn,width=3 cifar-resnet,depth=8,width=4 cifar-resnet,depth=9 cifar-resnet,depth=65000 small-cnn,width=0 "
    "small-cnn,width=-1 small-cnn,width=65536 small-cnn,width=1e300 small-cnn,width=NaN small-cnn,width= small-cnn, "
    "small-cnn,width=3,width=4 vgg,depth=7 wrn,width=0.0001 alex,width=0 lenet,width=[3] vit,heads=3 resnet,depth=x "
    "timm:test_resnet,pretrained=true timm:test_resnet,checkpoint_path=x os:system,command=true timm:.. , = x=1"
).split()
SHAPES = ("1x4x4", "1x8x8", "1x16x16", "3x4x4", "1x0x4", "1x1x1", "1x4x99999", "x", "1x-4x4", "1x4", "²x1x1", "1e9x1x1")
LAYERS = ("conv1", "bn1", "conv2", "bn2", "fc1", "fc2", "", "nothing", "conv1.weight", "0", "conv1\x1b[2J")


def words(random: Random) -> tuple[str, str]:
    """A student in words of any kind."""
    student = random.choice((*SIZES, *NAMES))
    if random.random() < 0.2:
        student = f"{random.choice(NAMES)},{random.choice(('width', 'depth', 'n', ''))}={random.choice((*STRANGE, *NUMBERS))}"
    student = student.replace("\0", "")
    if random.random() < 0.4:
        return "", f"students {BN} --student {shlex.quote(student)}"
    line = f"distill {BN} --student {shlex.quote(student)} --recipe dfad-digits --method.batch 8 {TINY} --device cpu --out run"
    if random.random() < 0.4:
        line += f" --student-inputs {random.choice(SHAPES)}"
    if random.random() < 0.4:
        line += f" --student-weights {random.choice(('teacher', WEIGHTS, BN, TIMM_VIT, 'nothing.pt', '.', 'digits.npz'))}"
    return "", line


def smaller(random: Random) -> tuple[str, str]:
    """A card that says that layers have other channels, or that inputs are resized."""
    base = random.choice((BN, BN, TIMM_RESNET))
    numbers: tuple[Any, ...] = (1, 2, 3, 8, 16, 0, -1, 2**40, 1.5, "x", None)
    changes: dict[str, Any] = {}
    if random.random() < 0.7:
        size = random.choice((1, 1, 2, 5000))
        names = [f"{random.choice(LAYERS)}{i or ''}" for i in range(size)]
        some = {name: [random.choice(numbers) for _ in range(random.choice((0, 1, 2, 3)))] for name in names}
        changes["channels"] = random.choice((some, some, some, [], "x", None, {"conv1": 3}))
    if random.random() < 0.5:
        sides = ([1, 4, 4], [1, 8, 8], [1, 16384, 16384], [3, 4, 4], [1, 0, 4], [1, 4], "1x4x4", 3, [1, 1, 1], [1, 4.5, 4])
        changes["resized_to"] = random.choice(sides)
    data = relabelled(Path(base).read_bytes(), CARD, lambda card: json.dumps(card | changes))
    name = put(Path(base), data)
    line = f"students {name} --student 2x" if base == BN and random.random() < 0.2 else read(random, name)
    return json.dumps(changes), line


STUDENTS = {"students in words": words, "smaller cards": smaller}
