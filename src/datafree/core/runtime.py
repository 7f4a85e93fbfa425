"""Device, precision, random numbers and counters of a run, and log values that are kept on the device."""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from datafree.core.distributed import rank, sum_over_ranks
from datafree.core.settings import first_line
from datafree.core.state import Counters

try:
    import resource
except ImportError:  # Windows lacks this module
    resource = None  # type: ignore[assignment]

Precision = Literal["auto", "fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")  # those that a run computes in
Compile = Literal["off", "default", "reduce-overhead", "max-autotune"]  # torch.compile's modes, the second with CUDA graphs


class Runtime:
    """Device, precision, seeded random numbers and counters of one run; each process draws its own random numbers.

    Raises `ValueError` if the device does not exist here, and for a seed that is no whole number.
    """

    def __init__(self, device: str = "auto", precision: Precision = "auto", seed: int = 0, compile: Compile = "off"):
        if type(seed) is not int or not abs(seed) < 2**62:
            raise ValueError(f"The seed {seed!r} is not a whole number of less than 63 bits; pass --seed 0, for example.")
        self.device, self.compile = find_device(device), compile
        self.precision, self.seed = find_precision(precision, self.device), seed
        self.random = torch.Generator(self.device).manual_seed(self.own_seed)
        self.counters = Counters()
        self.phases: dict[str, float] = {}  # wall time of each timed phase over all sessions, seconds
        self._sums: dict[str, Tensor] = {}
        self._terms: dict[str, int] = {}

    @property
    def own_seed(self) -> int:
        """The seed of this process: `seed` in rank 0, another one in each other rank."""
        return self.seed + 1_000_003 * rank()  # a small step: a CPU generator uses only the lower 32 bits

    def seed_per_process(self) -> None:
        """Seed torch's global random numbers, which dropout uses, differently in each process."""
        if rank():
            torch.manual_seed(self.own_seed)

    def noise(self, *shape: int) -> Tensor:
        """Standard normal numbers on the device, from the run's generator."""
        return torch.randn(*shape, generator=self.random, device=self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers uniform in [0, 1) on the device, from the run's generator."""
        return torch.rand(*shape, generator=self.random, device=self.device)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """bf16 autocast if the run's precision is bf16; losses and statistics convert to fp32 themselves."""
        return autocast(self.precision, self.device)

    def compiled(self, network: nn.Module) -> nn.Module:
        """`network` for the training loop: compiled by torch.compile if the run uses it, else `network` itself.

        The compiled module shares the weights of `network`, which stays unchanged.
        """
        if self.compile == "off":
            return network
        return torch.compile(network, mode=self.compile, dynamic=False)  # type: ignore[return-value]

    def refuse_compiled(self, reader: str) -> None:
        """Raise `ValueError` if the run uses torch.compile: `reader` needs values inside the student, which it hides."""
        if self.compile != "off":
            raise ValueError(
                f"{reader} reads values inside the student, which torch.compile hides (--compile {self.compile}); "
                "leave out --compile."
            )

    def minimize(self, loss: Tensor | Iterable[Tensor], optimizer: torch.optim.Optimizer, clip: float = 0.0) -> None:
        """One step of `optimizer` down the gradient of `loss`, or of the sum of losses that are computed one by one.

        The gradient's L2 norm is at most `clip` (0: no limit).
        """
        optimizer.zero_grad(set_to_none=True)
        for part in [loss] if isinstance(loss, Tensor) else loss:
            part.backward()  # type: ignore[no-untyped-call]
        if clip:
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            torch.nn.utils.clip_grad_norm_(weights, clip)
        optimizer.step()

    def note(self, name: str, value: Tensor) -> None:
        """Add the scalar `value` to the mean that the log writes next under `name`; the sum stays on the device."""
        value = value.detach().float()
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._terms[name] = self._terms.get(name, 0) + 1

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the wall time spent inside to that of `phase`; work that a GPU still has queued at the end is not counted."""
        began = time.monotonic()
        yield
        self.phases[phase] = self.phases.get(phase, 0.0) + time.monotonic() - began

    def drain(self) -> dict[str, float]:
        """Means, over all processes, of the values noted since the last call. Only this call waits for the device."""
        sums = sum_over_ranks({name: total.item() for name, total in self._sums.items()})
        terms = sum_over_ranks(dict(self._terms))
        self._sums, self._terms = {}, {}
        return {name: total / terms[name] for name, total in sums.items()}

    def totals(self) -> dict[str, int]:
        """The counters summed over all processes; those of diffusion are left out if they are 0."""
        counts = sum_over_ranks(self.counters.state_dict())
        return {name: int(total) for name, total in counts.items() if total or name in ("images", "teacher_queries")}

    def state_dict(self) -> dict[str, Any]:
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        costs = {"counters": self.counters.state_dict(), "phases": dict(self.phases)}
        return {"random": self.random.get_state(), "torch": torch.get_rng_state(), "cuda": cuda, **costs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.random.set_state(state_dict["random"].cpu())
        torch.set_rng_state(state_dict["torch"].cpu())
        for rng in state_dict["cuda"]:
            torch.cuda.set_rng_state(rng.cpu(), self.device)
        self.counters.load_state_dict(state_dict["counters"])
        self.phases = {str(name): float(seconds) for name, seconds in state_dict["phases"].items()}

    @contextlib.contextmanager
    def seeded(self) -> Iterator[Self]:
        """Inside, torch's global random numbers follow the run's seed; afterwards the caller's state is restored."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed)
            yield self

    def peak_mb(self) -> float | None:
        """Peak memory, MiB: of the GPU, or on a CPU of the process; None on Windows, which does not record it."""
        if self.device.type == "cuda":
            return round(torch.cuda.max_memory_allocated(self.device) / 2**20, 1)
        if resource is None:
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)

    def machine(self) -> str:
        """The name of the GPU, or the number of CPU cores and threads."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def find_device(name: str) -> torch.device:
    """The device `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, ...; `auto` gives each process of a machine its own GPU.

    Raises `ValueError` if the device does not exist here.
    """
    if name == "auto" and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    if name == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"Device {name!r} is not available ({first_line(error)}); pass --device cpu.") from error
    return device


def check_compiler(runtime: Runtime) -> None:
    """Raise `ValueError` if the run uses torch.compile and it does not work on this machine."""
    if runtime.compile == "off":
        return
    try:
        runtime.compiled(nn.ReLU())(torch.zeros(1, device=runtime.device))  # a layer with weights would draw random numbers
    except Exception as error:  # of many kinds: no C++ compiler, no Triton, an unsupported Python
        raise ValueError(f"torch.compile does not work here ({first_line(error)}); leave out --compile.") from error


def find_precision(name: Precision, device: torch.device) -> Precision:
    """The precision `name`, where `auto` is bf16 on a GPU that computes in bf16, else fp32."""
    if name != "auto":
        return name
    has_bf16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere and later
    return "bf16" if has_bf16 else "fp32"


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bf16 autocast on `device` for that precision, nothing for fp32."""
    return contextlib.nullcontext() if precision == "fp32" else torch.autocast(device.type, torch.bfloat16)


def available_bytes(device: torch.device) -> int:
    """Memory that this process may still take: of its GPU, or of the machine and within the limit that it was started with."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = max([free, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))])
    except (OSError, ValueError, AttributeError):  # not on every system; what every machine of today has
        free = 4 * 2**30
    if resource is None:
        return free
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return free if limit == resource.RLIM_INFINITY else min(free, limit)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch uses one thread: tiny tensors gain nothing from more, and lose much beside another busy process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
