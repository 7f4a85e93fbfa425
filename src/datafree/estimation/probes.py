"""Probes: synthetic images that no training saw, on which a student is compared with its teacher.

The families differ in kind, since each kind flatters some students: pictures that cost nothing (procedural), images that were
pulled out of the teacher for its classes and statistics in few steps or in many (early, middle, late), and what lies between
two of these (mixes). The more steps, the more images the teacher calls what they were made for: so they can be as hard for it
as real ones are, of which only its accuracy needs to be known.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from datafree.core.files import opened_safetensors, replace_atomically
from datafree.core.runtime import Precision, Runtime
from datafree.core.spec import InputSpec
from datafree.engine.method import NoStudent, Problem
from datafree.methods.common.inversion import Inversion
from datafree.methods.common.procedural.supply import Supplier, Supply
from datafree.methods.deepinversion import DeepInversion
from datafree.networks.inside.cost import multiply_adds
from datafree.networks.inside.taps import norm_names
from datafree.networks.network import Network
from datafree.networks.saved.weights import fingerprint
from datafree.networks.teacher import Teacher

VERSION = "1"  # of what is drawn; another one makes other images
SEED = 20_261_127  # far from the small seeds that people give their runs
STAGES = {"early": 20, "middle": 60, "late": 150}  # families of inversions, and their steps
FEWEST, MOST = 48, 192  # images of each of these
EACH = {"mixes": 4, "procedural": 4}  # images of the others for each of these
CANDIDATES = 8  # procedural images drawn for each that is kept
HEAVY = 10**7  # multiply-adds of a network that is faster in bf16 where the CPU has it
SHIFT = 8  # the shorter side over this is the largest shift, of a mix and in a step
FAMILIES = (*STAGES, "mixes", "procedural")


@dataclass(frozen=True)
class Probes:
    """Images by family, uint8 [N, C, H, W], and the classes [N] that those of `STAGES` were made for."""

    families: dict[str, Tensor]
    aims: Tensor

    def save(self, path: Path, teacher: str) -> None:
        """Write the probes of the teacher with that fingerprint as one safetensors file."""
        label = {"datafree.probes": VERSION, "teacher": teacher}
        replace_atomically(path, lambda temporary: save_file(self.families | {"aims": self.aims}, temporary, label))


def make_probes(network: Network, images: int, runtime: Runtime) -> Probes:
    """The probes of a teacher: `images` inversions of each stage, and more of what is cheap.

    Raises `ValueError` for a teacher that classifies no images.
    """
    inputs, problem = network.card.inputs, _problem(network, runtime)
    made: dict[str, Tensor] = {}
    with runtime.seeded():
        for name, steps in STAGES.items():
            batch = inverter(network, images, steps).start(problem, runtime).synthesize(images)
            made[name] = batch.x
        assert batch.y is not None
        made["mixes"] = _mixed(batch.x, EACH["mixes"] * images, runtime)
        made["procedural"] = Supplier(Supply(candidates=CANDIDATES), problem, runtime)(EACH["procedural"] * images)
    pixels = {name: inputs.to_pixels(x).cpu().contiguous() for name, x in made.items()}
    return Probes(pixels, batch.y.argmax(1).cpu())


def seconds_for(network: Network, images: int, runtime: Runtime) -> float:
    """Seconds that `make_probes` takes here, about: by a few steps with a few images."""
    few, seconds = min(images, 8), {}
    problem = _problem(network, runtime)
    with runtime.seeded():
        for steps in (1, 1, 5):  # the first only warms up
            method = inverter(network, few, steps)
            began = time.perf_counter()
            method.start(problem, runtime).synthesize(few)
            seconds[steps] = time.perf_counter() - began
    drawing, step = seconds[1], max(0.0, seconds[5] - seconds[1]) / 4
    return images / few * (sum(STAGES.values()) * step + (EACH["procedural"] + len(STAGES)) * drawing)


def is_small(network: Network) -> bool:
    """Whether a pass is so little work that neither several threads nor bf16 make it faster."""
    return multiply_adds(network.module, network.card.inputs) < HEAVY


def precision_for(network: Network, device: torch.device) -> Precision:
    """The precision in which probes are made: not by a measurement, so that the same machine always makes the same."""
    if device.type != "cpu":
        return "auto"
    # Of torch 2.10 and later; earlier ones do not say what a CPU can do.
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if not is_small(network) and (able.get("avx512_bf16") or able.get("amx_bf16")) else "fp32"


def _problem(network: Network, runtime: Runtime) -> Problem:
    card = network.card
    return Problem(Teacher(network.module, card.inputs, runtime), NoStudent(), card.inputs, card.classes, card.task)


def inverter(network: Network, images: int, steps: int) -> DeepInversion:
    """How images are pulled out of a network: from procedural ones, seen in parts, by statistics where it has norms."""
    sane = bool(norm_names(network.module))
    inversion = Inversion(
        batch=min(64, images), steps=steps, lr=0.05, betas=(0.9, 0.999), statistics=float(sane), scale_free=True
    )
    roll = max(1, min(network.card.inputs.shape[1:]) // SHIFT)
    return DeepInversion(procedural=Supply(), basis="fourier", inversion=inversion, min_crop_area=0.3, roll=roll)


def _mixed(x: Tensor, n: int, runtime: Runtime) -> Tensor:
    """n images between two of `x` [N, C, H, W], nearer to the first, each shifted."""
    first, second = (torch.randint(len(x), (n,), generator=runtime.random, device=x.device) for _ in range(2))
    share = 0.5 + 0.5 * torch.rand(n, 1, 1, 1, generator=runtime.random, device=x.device)
    most = max(1, min(x.shape[2:]) // SHIFT)
    shifts = torch.randint(-most, most + 1, (n, 2), generator=runtime.random, device=x.device).tolist()
    mixed = share * x[first] + (1 - share) * x[second]
    return torch.stack([image.roll(shift, (1, 2)) for image, shift in zip(mixed, shifts, strict=True)])


def kept_probes(path: Path, network: Network) -> Probes | None:
    """The probes that an earlier call left at `path`; None if there are none, or they are another teacher's."""
    if not path.is_file():
        return None
    try:
        with opened_safetensors(path) as (metadata, read):
            if metadata.get("datafree.probes") != VERSION or metadata.get("teacher") != fingerprint(network.module):
                return None
            tensors = read()
    except ValueError:  # a spoilt file is made again
        return None
    inputs = network.card.inputs
    aims = tensors.pop("aims", torch.empty(0))
    sound = {*tensors} == {*FAMILIES} and all(len(aims) == len(tensors[name]) for name in STAGES)
    sound = sound and all(_is_picture(value, inputs) for value in tensors.values())
    return Probes(tensors, aims) if sound else None


def _is_picture(value: Tensor, inputs: InputSpec) -> bool:
    return value.dtype == torch.uint8 and value.dim() == 4 and tuple(value.shape[1:]) == inputs.shape and len(value) > 0
