"""One teacher in every form gives the same student, and methods of statistics serve all forms but black boxes."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datafree import InputSpec, Network, build, distill, load, pack
from datafree.networks.building.hub import Logits, config_text
from datafree.networks.inside.taps import norm_names
from datafree.recipes import find_recipe

transformers = pytest.importorskip("transformers", reason="it builds the teacher")
pytest.importorskip("onnx", reason="one form is an ONNX file")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*torch.onnx", "ignore:.*TorchScript")

INPUTS = InputSpec(shape=(3, 32, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
STUDENT = "small-cnn-quarter"
METHODS = ("dfad-cifar10", "deepinversion-cifar10", "fast-light")  # the first reads no statistics
Form = Callable[[nn.Module, Path], Network]


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    """A ResNet of transformers, whose norms have statistics of some images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5)
        model = transformers.ResNetForImageClassification(config).train()
        for _ in range(20):
            model(torch.randn(8, *INPUTS.shape) + torch.randn(8, 3, 1, 1))
    return Logits(model.eval(), False).eval()


def images(count: int = 2) -> Tensor:
    return torch.randn(count, *INPUTS.shape, generator=torch.Generator().manual_seed(1))


def folder(teacher: nn.Module, place: Path) -> Network:
    teacher.model.save_pretrained(place)  # type: ignore[union-attr, operator]
    said = {"image_mean": INPUTS.mean, "image_std": INPUTS.std, "size": {"height": 32, "width": 32}}
    (place / "preprocessor_config.json").write_text(json.dumps(said | {"do_rescale": True, "do_normalize": True}))
    return load(place)


def state_dict(teacher: nn.Module, place: Path) -> Network:
    torch.save({"state_dict": teacher.state_dict()}, place / "t.pt")
    config = config_text(teacher.model.config.to_dict(), 5)  # type: ignore[union-attr, operator]
    return pack(place / "t.pt", "transformers:image-classification", INPUTS, options={"config": config})


def network_file(teacher: nn.Module, place: Path) -> Network:
    state_dict(teacher, place).save(place / "t.safetensors")
    return load(place / "t.safetensors")


def exported(teacher: nn.Module, place: Path) -> Network:
    program = torch.export.export(teacher, (images(),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, place / "t.pt2")
    return pack(place / "t.pt2", mean=INPUTS.mean, std=INPUTS.std)


def onnx(teacher: nn.Module, place: Path, **how: Any) -> Network:
    how = how or {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            teacher, (images(),), str(place / "t.onnx"), dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}}, **how
        )
    return pack(place / "t.onnx", mean=INPUTS.mean, std=INPUTS.std)


def folded_onnx(teacher: nn.Module, place: Path) -> Network:
    return onnx(teacher, place, do_constant_folding=True)


def scripted(teacher: nn.Module, place: Path) -> Network:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(teacher, images(1)).save(str(place / "t.pt"))
    return pack(place / "t.pt", inputs=INPUTS, allow_code=[str(place / "t.pt")])


def branching(teacher: nn.Module, place: Path) -> Network:
    """TorchScript that is no graph, so that it runs as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Branching(torch.jit.trace(teacher, images(1)))).save(str(place / "t.pt"))
    return pack(place / "t.pt", inputs=INPUTS, allow_code=[str(place / "t.pt")])


class Branching(nn.Module):
    def __init__(self, inside: nn.Module):
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inside(x)
        if found.mean() > 1e9:
            found = found + 1
        return found


NAMED: tuple[Form, ...] = (state_dict, folder, network_file)  # the classes of transformers, with these weights
PROGRAMS: tuple[Form, ...] = (exported, onnx, scripted)  # a graph of the same operators


def student(teacher: Network, method: str) -> dict[str, Tensor]:
    """The weights of a student after a few steps of `method`, seed 0."""
    recipe = find_recipe(method).dry_run()
    return distill(teacher, STUDENT, recipe=recipe, inputs=INPUTS, device="cpu", quiet=True).state_dict()


def logits(weights: dict[str, Tensor]) -> Tensor:
    module = build(STUDENT, INPUTS, 5).eval()
    module.load_state_dict(weights)
    return module(images(64)).detach()  # type: ignore[no-any-return]


def test_every_form_of_one_teacher_gives_the_same_student(teacher: nn.Module, tmp_path: Path) -> None:
    """To the bit within the two ways in which a teacher runs, its own classes and a graph.

    Between these, torch folds the norms of the one and not of the other, so answers differ by rounding, 1e-7. Steps of Adam,
    which scale a gradient near zero to the full rate, can make 1e-3 of that in a weight.
    """
    students: dict[str, dict[str, Tensor]] = {}
    for form in (*NAMED, *PROGRAMS):
        (place := tmp_path / form.__name__).mkdir()
        found = form(teacher, place)
        assert found.card.inputs.mean == pytest.approx(INPUTS.mean)
        assert len(norm_names(found.module)) == 8
        assert torch.equal(found.module(images()), teacher(images()))
        for method in METHODS:
            made = student(found, method)
            first = students.setdefault(f"{method} {form in PROGRAMS}", made)
            assert all(torch.equal(value, first[name]) for name, value in made.items()), (form.__name__, method)
    for method in METHODS:
        one, other = (logits(students[f"{method} {program}"]) for program in (False, True))
        torch.testing.assert_close(one, other, rtol=0, atol=0.01 * one.std().item())
    assert not torch.allclose(logits(students["fast-light True"]), logits(students["dfad-cifar10 True"]), atol=1e-3)


@pytest.mark.parametrize("form", [folded_onnx, branching])
def test_a_form_without_norms_serves_what_reads_none(form: Form, teacher: nn.Module, tmp_path: Path) -> None:
    found = form(teacher, tmp_path)
    assert not norm_names(found.module)
    torch.testing.assert_close(found.module(images()), teacher(images()), rtol=0, atol=1e-5)
    expected = logits(student(Network(teacher, found.card), METHODS[0]))
    torch.testing.assert_close(logits(student(found, METHODS[0])), expected, rtol=0, atol=0.01 * expected.std().item())
    for method in METHODS[1:]:
        with pytest.raises(ValueError, match="matches batch-norm statistics, and this teacher has none; use dfad"):
            student(found, method)


def test_a_black_box_serves_what_needs_no_gradient(teacher: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="it runs the black box")

    def refuse(*_: object) -> None:
        raise ValueError("has an operator that is not served")

    monkeypatch.setattr("datafree.networks.programs.onnx_file._program", refuse)
    file = tmp_path / "t.onnx"
    with pytest.raises(ValueError, match="has no graph that could be kept; give its own file as the teacher"):
        onnx(teacher, tmp_path).save(tmp_path / "t.safetensors")
    found = load(file, inputs=INPUTS)
    for method in METHODS:
        with pytest.raises(ValueError, match="procedural, or stored"):
            student(found, method)
    made, expected = (logits(student(each, "procedural-light-colour")) for each in (found, Network(teacher, found.card)))
    torch.testing.assert_close(made, expected, rtol=0, atol=0.01 * expected.std().item())
