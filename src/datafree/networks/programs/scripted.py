"""Files of TorchScript, which is code: made a program where it can be, and else run as it is."""

import tempfile
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datafree.networks.building.limits import FOREIGN, reason_of
from datafree.networks.inside.sizes import answers_of, found_shape
from datafree.networks.outputs import ALIKE, flattened
from datafree.networks.programs.batch import freed
from datafree.networks.programs.exported import read_exported
from datafree.networks.programs.program import Program

_IMAGES = 2  # for which it is converted


class Scripted(nn.Module):
    """A network of TorchScript, as it is; `reason` says why it could not be made a program."""

    def __init__(self, network: nn.Module, reason: str):
        super().__init__()
        self.network, self.reason = network, reason

    def forward(self, x: Tensor) -> Any:
        return self.network(x)


def is_scripted(path: Path) -> bool:
    """Whether a file is an archive that `torch.jit.save` wrote, by the names of its entries."""
    try:
        with zipfile.ZipFile(path) as packed:
            names = packed.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return any("/code/" in name for name in names) and any(name.endswith("constants.pkl") for name in names)


def read_scripted(path: Path, allow_code: Collection[str], shape: tuple[int, ...] | None) -> tuple[nn.Module, tuple[int, ...]]:
    """The network in a file of TorchScript, a `Program` if it can be made one, else a `Scripted`, and the shape of one image.

    Raises `ValueError`, a sentence's middle, unless `allow_code` names the file, and if `shape` is None and a probe does not
    find it.
    """
    if not any(Path(each) == path for each in allow_code):
        raise ValueError(f"is code, which would run; if you trust it, pass --allow-code {path}")
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):  # that TorchScript is: the file is as it is
            warnings.filterwarnings("ignore", message=".*torch.jit", category=category)
        try:
            network = torch.jit.load(str(path), map_location="cpu").eval()
            for weight in network.parameters():  # else its copies would not be leaves of the graph of gradients
                weight.requires_grad_(False)
        except FOREIGN as error:
            raise ValueError(f"does not load ({reason_of(error)}); save it again with this version of torch") from error
        shape = shape or _probed(network)
        try:
            return _converted(network, shape), shape
        except FOREIGN as error:  # code of others, which need not be a graph of known operators
            return Scripted(network, reason_of(error)), shape


def _probed(network: nn.Module) -> tuple[int, ...]:
    try:
        return found_shape("it", network.parameters(), answers_of(network))[0]
    except ValueError as error:
        raise ValueError(f"does not say the shape of its inputs: {str(error).removesuffix('.')}") from error


def _converted(network: Any, shape: tuple[int, ...]) -> Program:
    """The same network as a program. Raises anything if that fails, or the two differ by more than rounding."""
    from torch._export.converter import TS2EPConverter

    warnings.simplefilter("ignore")  # of torch's converter, about its own parts
    x = torch.randn(_IMAGES + 1, *shape, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory(prefix="datafree-") as folder:
        file = Path(folder) / "converted.pt2"
        torch.export.save(TS2EPConverter(network, (x[:_IMAGES],)).convert(), file)
        graph, weights, images = read_exported(file)
    program = Program(freed(graph, weights, images) if images else graph, weights)
    with torch.no_grad():
        expected, found = flattened(network(x)), flattened(program(x))
    if not torch.allclose(found, expected, rtol=0, atol=ALIKE * float(expected.abs().max())):
        raise ValueError("the two differ")
    return program
