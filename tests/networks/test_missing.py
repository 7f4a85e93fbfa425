"""Inputs and classes that a caller left out: found where only one number fits, else an error that says what is known."""

from pathlib import Path

import pytest
import torch
from helpers import network
from torch import Tensor, nn

from datafree import InputSpec, build, distill, pack
from datafree.cli import main
from datafree.networks.inside.sizes import SIDES, answers_of, first_channels, found_shape, last_classes

FACTORIES = """
from torch import nn
def flat():
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 13 * 13, 7))
def hidden():
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 20), nn.ReLU(), nn.Linear(20, 9))
"""


def saved(tmp_path: Path, architecture: str, shape: tuple[int, int, int], classes: int) -> Path:
    file = tmp_path / "weights.pt"
    module = build(architecture, InputSpec(shape=shape), classes)
    torch.save({f"module.{name}": value for name, value in module.state_dict().items()}, file)
    return file


@pytest.mark.parametrize(
    ("architecture", "shape", "classes"),
    [("small-cnn-quarter", (1, 28, 28), 10), ("vit-mini-half", (3, 64, 64), 100), ("lenet5", (2, 32, 32), 2)],
)
def test_inputs_and_classes_are_those_of_the_first_and_last_layer(
    architecture: str, shape: tuple[int, int, int], classes: int, tmp_path: Path
) -> None:
    packed = pack(saved(tmp_path, architecture, shape, classes), architecture)
    assert packed.card.inputs == InputSpec(shape=shape)
    assert packed.card.classes == classes
    sizes = "x".join(map(str, shape))
    assert packed.notes[0].startswith(f"inputs of {sizes}, pixels in [0, 1]: the only usual square size that fits;")
    assert packed.notes[1:] == (f"{classes} classes: the outputs of the last layer",)


def test_what_was_found_is_on_the_screen_and_given_numbers_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path, "small-cnn-quarter", (1, 28, 28), 10)
    line = ["pack", str(file), "--arch", "small-cnn-quarter", "--out", str(tmp_path / "packed")]
    assert main([*line, "--mean", "0.25", "--std", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert "inputs of 1x28x28: the only usual square size that fits" in shown
    assert "10 classes: the outputs of the last layer" in shown
    assert main([*line, "--inputs", "1x28x28", "--classes", "10"]) == 0
    assert "the only" not in capsys.readouterr().out
    given = pack(file, "small-cnn-quarter", mean=(0.25,), std=(0.5,))
    assert given.card.inputs == InputSpec(shape=(1, 28, 28), mean=(0.25,), std=(0.5,))


@pytest.mark.parametrize(("name", "shape", "classes"), [("flat", (2, 28, 28), 7), ("hidden", (1, 32, 32), 9)])
def test_a_factory_that_takes_no_sizes_is_probed(name: str, shape: tuple[int, int, int], classes: int, tmp_path: Path) -> None:
    code, file = tmp_path / "net.py", tmp_path / "weights.pt"
    code.write_text(FACTORIES)
    names: dict[str, nn.Module] = {}
    exec(FACTORIES, names)
    torch.save(names[name]().state_dict(), file)  # type: ignore[operator]
    with pytest.raises(ValueError, match="if you trust it, pass --allow-code"):
        pack(file, f"{code}:{name}")
    card = pack(file, f"{code}:{name}", allow_code=[str(code)]).card
    assert (card.inputs.shape, card.classes) == (shape, classes)


def test_where_several_sizes_fit_the_error_says_what_is_known(tmp_path: Path) -> None:
    said = r"^resnet8 takes 3 channels, and fits inputs of 3x8x8 and 3x16x16, and perhaps .*; pass --inputs 3xHEIGHTxWIDTH"
    with pytest.raises(ValueError, match=said):
        pack(saved(tmp_path, "resnet8", (3, 32, 32), 10), "resnet8")


def test_a_size_that_is_not_usual_is_asked_for(tmp_path: Path) -> None:
    file = saved(tmp_path, "small-cnn-quarter", (1, 36, 28), 10)
    said = (
        r"^small-cnn-quarter takes 1 channel, and fits inputs of no usual square size, 8 to 512 pixels; pass --inputs 1xHEIGHT"
    )
    with pytest.raises(ValueError, match=said):
        pack(file, "small-cnn-quarter")
    assert pack(file, "small-cnn-quarter", InputSpec(shape=(1, 36, 28))).card.classes == 10


def test_weights_of_another_network_are_named_as_ever(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"do not fit resnet8: .* unexpected: "):
        pack(saved(tmp_path, "resnet20", (3, 32, 32), 10), "resnet8")
    with pytest.raises(ValueError, match="No network is named 'resnet9'"):
        pack(tmp_path / "weights.pt", "resnet9")


@pytest.mark.parametrize("classes", [10, 1000])
def test_a_fine_tuned_network_of_timm_has_the_classes_of_its_last_layer(classes: int, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="it builds the network")
    packed = pack(saved(tmp_path, "timm:mobilenetv3_small_050", (3, 224, 224), classes), "timm:mobilenetv3_small_050")
    assert packed.card.classes == classes
    assert packed.card.inputs.mean == pytest.approx((0.485, 0.456, 0.406))
    assert packed.notes == (("10 classes: the outputs of the last layer",) if classes == 10 else ())  # 1000 are those of timm


def test_a_plain_module_is_told_its_shape() -> None:
    for architecture, shape in (("small-cnn-quarter", r"\(1, 8, 8\)"), ("resnet8", r"\(1, HEIGHT, WIDTH\)")):
        with pytest.raises(ValueError, match=rf"pass inputs=InputSpec\(shape={shape}, mean=..., std=...\)"):
            distill(network(1, architecture).module, "small-cnn-quarter", quiet=True, device="cpu")


def test_a_probe_leaves_the_network_as_it_was() -> None:
    module = network(1, "resnet8").module.train()
    before = [value.clone() for value in module.state_dict().values()]
    random = torch.get_rng_state()
    assert [answers_of(module)((1, side, side)) for side in SIDES[:3]] == [10, 10, 10]
    assert answers_of(module)((3, 8, 8)) is None
    assert module.training
    assert all(torch.equal(value, old) for value, old in zip(module.state_dict().values(), before, strict=True))
    assert torch.equal(torch.get_rng_state(), random)


def test_the_probe_stops_at_the_second_size_that_fits() -> None:
    asked: list[tuple[int, int, int]] = []

    def answers(shape: tuple[int, int, int]) -> int | None:
        asked.append(shape)
        return 5

    with pytest.raises(ValueError, match=r"^It takes 4 channels, and fits inputs of 4x8x8 and 4x16x16"):
        found_shape("It", [torch.zeros(9, 4, 3, 3)], answers)
    assert asked == [(4, 8, 8), (4, 16, 16)]


def test_layers_that_say_nothing() -> None:
    weights: list[Tensor] = [torch.zeros(4), torch.zeros(1, 5)]
    assert first_channels(weights) is None
    assert last_classes(weights) is None
    assert last_classes([torch.zeros(7, 5, 1, 1), torch.zeros(7)]) == 7
