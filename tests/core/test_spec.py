"""The way between pixels and network units."""

import pytest
import torch

from datafree import InputSpec


def test_pixels_survive_the_way_there_and_back() -> None:
    spec = InputSpec(shape=(3, 4, 4), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    pixels = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(spec.to_pixels(spec.to_network(pixels)), pixels)


def test_network_units_are_the_formula() -> None:
    spec = InputSpec(shape=(3, 1, 1), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    x = spec.to_network(torch.full((1, 3, 1, 1), 51, dtype=torch.uint8)).flatten()
    assert x.tolist() == pytest.approx([(0.2 - 0.5) / 0.2, (0.2 - 0.4) / 0.3, (0.2 - 0.3) / 0.4])


def test_what_lies_outside_is_clipped() -> None:
    assert InputSpec(shape=(1, 1, 2)).to_pixels(torch.tensor([[[[-3.0, 7.0]]]])).flatten().tolist() == [0, 255]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean": (0.1, 0.2)}, "give one, or one a channel"),
        ({"std": (0.0,)}, "must be positive"),
        ({"shape": (3, 0, 4)}, "greater"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        InputSpec.model_validate({"shape": (3, 4, 4)} | change)
