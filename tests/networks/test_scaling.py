"""The first batch norm says in which mean and std a network was trained, or that it does not say it."""

from pathlib import Path

import pytest
import torch
from helpers import network
from torch import Tensor, nn

from datafree import InputSpec, Network, inspect, pack
from datafree.api.scaling import describe_scaling
from datafree.core.runtime import Runtime
from datafree.methods.common.procedural.pictures import FAMILIES, draw
from datafree.networks.inside.scaling import FEWEST, Scaling, read_scaling

SHAPE = (3, 32, 32)
IMAGENET = InputSpec(shape=SHAPE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
PIXELS, HALF, BYTES = (InputSpec(shape=SHAPE, mean=(m,), std=(s,)) for m, s in ((0, 1), (0.5, 0.5), (0, 1 / 255)))


def pictures(seed: int = 1) -> Tensor:
    return draw(64, tuple(FAMILIES), SHAPE, Runtime("cpu", seed=seed))


def trained_on(inputs: InputSpec, seen: Tensor, architecture: str = "resnet8") -> nn.Module:
    """A network whose norms have the statistics of the pictures `seen` in these units."""
    module = network(3, architecture, inputs).module
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    module.train()(inputs.to_network(seen))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.get_buffer("num_batches_tracked").fill_(FEWEST)
    return module.eval()


@pytest.mark.parametrize("inputs", [IMAGENET, PIXELS, HALF, BYTES])
def test_only_its_own_scaling_fits_a_network(inputs: InputSpec) -> None:
    seen = pictures(seed=5) * torch.tensor([1.0, 0.8, 0.6]).view(3, 1, 1)
    module = trained_on(inputs, seen)
    for other in (IMAGENET, PIXELS, HALF, BYTES):
        found = read_scaling(module, other, pictures())
        assert isinstance(found, Scaling)
        assert found.fits == (other == inputs)
        if other == inputs:
            assert found.pixel == pytest.approx(seen.mean((0, 2, 3)).tolist(), abs=0.05)
            assert 0.5 < found.variance < 2
        else:
            assert (inputs.mean, inputs.std) in [(mean, pytest.approx(std, rel=1e-3)) for mean, std in found.fitting]


def test_a_mean_that_is_left_out_is_seen() -> None:
    module = trained_on(IMAGENET, pictures(seed=5))
    found = read_scaling(module, InputSpec(shape=SHAPE, std=IMAGENET.std), pictures())
    assert isinstance(found, Scaling)
    assert not found.fits
    assert found.pixel
    assert max(found.pixel) < 0.03


def test_inspect_has_a_line_on_it(taught: Network, tmp_path: Path) -> None:
    taught.save(tmp_path / "right")
    assert inspect(tmp_path / "right")["scaling"].startswith("fits the first norm: ")
    inputs = InputSpec(shape=taught.card.inputs.shape, mean=(0.0,), std=(0.02,))
    Network(taught.module, taught.card.model_copy(update={"inputs": inputs})).save(tmp_path / "wrong")
    line = inspect(tmp_path / "wrong")["scaling"]
    assert line.startswith("does not fit the first norm: ")
    assert "check --mean and --std" in line


def test_a_student_has_no_such_line(taught: Network, tmp_path: Path) -> None:
    """Its images were made, and its scaling is the teacher's."""
    card = taught.card.model_copy(update={"history": ({"event": "distilled"},)})
    Network(taught.module, card).save(tmp_path / "student")
    assert "scaling" not in inspect(tmp_path / "student")


@pytest.mark.parametrize(("inputs", "says"), [(IMAGENET, "fits"), (PIXELS, "does not fit"), (HALF, "does not fit")])
def test_the_scaling_of_a_third_party_network_is_known(inputs: InputSpec, says: str, shared_data: Path) -> None:
    for depth, name in ((20, "resnet20-12fca82f.th"), (56, "resnet56-4bfd9763.th")):
        line = describe_scaling(pack(shared_data / "weights" / name, f"resnet{depth}", inputs, 10).module, inputs)
        assert line.startswith(f"{says} the first norm: ")
        assert ("(--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 would fit)" in line) == (says == "does not fit")


def test_where_it_cannot_be_judged_the_line_says_why() -> None:
    def line(module: nn.Module) -> str:
        return describe_scaling(module.eval(), IMAGENET)

    assert line(network(1, "vit-mini-half", IMAGENET).module) == "cannot be judged, since it has no batch norm"
    fresh = network(1, "resnet8", IMAGENET).module
    assert line(fresh).endswith("has statistics of no data")
    late = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(3600, 10))
    assert line(late).endswith("does not follow a convolution of the inputs")
    module = trained_on(IMAGENET, pictures())
    module.get_buffer("bn1.num_batches_tracked").fill_(9)
    assert line(module).endswith("have seen too few batches, 9")
