"""ONNX files: the same network with its norms where torch has the operators, else a black box; both refuse what is hostile."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import network
from test_programs import SMALL, Attention, Windows, images, with_statistics
from torch import nn

from datafree import InputSpec, Network, distill, inspect, load, pack
from datafree.core.runtime import Runtime
from datafree.networks.inside.taps import norm_names
from datafree.networks.teacher import Teacher
from datafree.recipes import find_recipe

onnx = pytest.importorskip("onnx", reason="the files are read by it")
pytest.importorskip("onnxruntime", reason="it runs what torch does not")


def export(module: nn.Module, path: Path, count: int = 2, dynamic: bool = True, norms: bool = False) -> Path:
    """The module as torch's older exporter writes it; `norms` keeps its batch norms apart from its convolutions."""
    how: dict[str, Any] = {"input_names": ["x"]}
    if dynamic:
        how["dynamic_axes"] = {"x": {0: "batch"}}
    if norms:
        how |= {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (images(count),), str(path), dynamo=False, **how)
    return path


@pytest.fixture
def resnet() -> Network:
    found = network(3, "resnet8", SMALL)
    return Network(with_statistics(found.module), found.card)


def test_an_onnx_file_with_norms_is_the_same_network(resnet: Network, tmp_path: Path) -> None:
    packed = pack(export(resnet.module, tmp_path / "t.onnx", norms=True), mean=SMALL.mean, std=SMALL.std)
    packed.save(tmp_path / "packed.safetensors")
    found = load(tmp_path / "packed.safetensors")
    assert found.card.inputs == SMALL
    assert torch.equal(found.module(images()), resnet.module(images()))
    assert {*norm_names(found.module)} == {*norm_names(resnet.module)}
    assert found.parameters == resnet.parameters
    small = find_recipe("fast-light").dry_run()
    students = [
        distill(teacher, "small-cnn-quarter", recipe=small, inputs=SMALL, device="cpu", quiet=True).state_dict()
        for teacher in (packed, resnet)
    ]
    assert all(torch.equal(value, students[1][name]) for name, value in students[0].items())


def test_folded_norms_are_told(resnet: Network, tmp_path: Path) -> None:
    found = load(export(resnet.module, tmp_path / "t.onnx"))
    torch.testing.assert_close(found.module(images()), resnet.module(images()), rtol=0, atol=1e-5)
    assert not norm_names(found.module)
    assert any("folded into its convolutions" in note for note in found.notes)
    with pytest.raises(ValueError, match="this teacher has none"):
        distill(found, "small-cnn-quarter", recipe=find_recipe("deepinversion-cifar10").dry_run(), device="cpu", quiet=True)


@pytest.mark.parametrize(
    ("kind", "count", "dynamic"),
    [(Attention, 1, False), (Attention, 2, False), (Attention, 2, True), (Windows, 1, False), (Windows, 2, True)],
)
def test_any_number_of_images_is_served(kind: type[nn.Module], count: int, dynamic: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = kind().eval()
    found = load(export(module, tmp_path / "t.onnx", count, dynamic))
    assert found.card.architecture == "program"
    for number in (1, 3):
        torch.testing.assert_close(found.module(images(number)), module(images(number)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "side"), [("test_vit", 160), ("mobilenetv3_small_050", 64)])
def test_networks_of_timm_are_programs(name: str, side: int, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=10).eval()
    x = images(2, (3, side, side))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), str(tmp_path / "t.onnx"), dynamo=False)
    found = load(tmp_path / "t.onnx")
    assert found.card.architecture == "program"
    torch.testing.assert_close(found.module(x), module(x), rtol=0, atol=1e-5)


def graph_of(
    nodes: list[Any], path: Path, weights: dict[str, Any] | None = None, sizes: tuple[Any, ...] = ("b", 3, 16, 16)
) -> Path:
    """An ONNX file of these nodes, from `x` to `y`."""
    h = onnx.helper
    given, made = (h.make_tensor_value_info(name, 1, shape) for name, shape in (("x", sizes), ("y", None)))
    held = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = h.make_graph(nodes, "g", [given], [made], held)
    onnx.save_model(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def boxed(path: Path) -> Path:
    """A file with an operator that torch has not: the answer is a sum of a matrix product, and its noise-free hashing."""
    node = onnx.helper.make_node
    weights = {"w": np.random.default_rng(0).normal(size=(768, 10)).astype("float32")}
    nodes = [node("Flatten", ["x"], ["f"]), node("MatMul", ["f", "w"], ["m"]), node("Hardmax", ["m"], ["h"])]
    return graph_of([*nodes, node("Add", ["m", "h"], ["y"])], path, weights)


def test_what_torch_has_not_is_a_black_box(tmp_path: Path) -> None:
    file = boxed(tmp_path / "t.onnx")
    found = load(file, inputs=SMALL)
    assert found.card.architecture == "onnx"
    assert any("black box" in note and "'Hardmax'" in note for note in found.notes)
    assert found.module(images(5)).shape == (5, 10)
    with pytest.raises(ValueError, match="give its own file as the teacher"):
        found.save(tmp_path / "packed.safetensors")
    with pytest.raises(ValueError, match="use procedural, or stored"):
        distill(file, "small-cnn-quarter", recipe=find_recipe("fast-light").dry_run(), inputs=SMALL, device="cpu", quiet=True)
    assert "procedural" in inspect(file)["auto"]
    out = tmp_path / "run"
    for _ in range(2):  # the second call takes the student of the first
        student = distill(file, "small-cnn-quarter", inputs=SMALL, budget="512images", out=out, device="cpu", quiet=True)
    assert student(images()).shape == (3, 10)


def test_a_black_box_of_one_image_serves_many(tmp_path: Path) -> None:
    node = onnx.helper.make_node
    nodes = [node("Flatten", ["x"], ["f"]), node("Hardmax", ["f"], ["h"]), node("Slice", ["h", "b", "e", "a"], ["y"])]
    weights = {key: np.array([value], dtype="int64") for key, value in (("b", 0), ("e", 10), ("a", 1))}
    found = load(graph_of(nodes, tmp_path / "t.onnx", weights, (1, 3, 16, 16)), inputs=SMALL)
    x = images(4)
    assert torch.equal(found.module(x), torch.cat([found.module(part) for part in x.split(1)]))


def outside(path: Path, location: str) -> Path:
    """A file whose weights lie in another file."""
    file = boxed(path)
    model = onnx.load_model(str(file))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(768 * 10 * 4))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    return path


def test_numbers_beside_the_file_are_read_and_those_outside_are_not(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    numbers = np.ones(768 * 10, dtype="float32").tobytes()
    for place in (tmp_path / "secret.bin", tmp_path / "in" / "w.bin"):
        place.write_bytes(numbers)
    assert load(outside(tmp_path / "in" / "t.onnx", "w.bin"), inputs=SMALL).card.classes == 10
    (tmp_path / "in" / "link.bin").symlink_to(tmp_path / "secret.bin")
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin"):
        with pytest.raises(ValueError, match="outside of its folder"):
            load(outside(tmp_path / "in" / "t.onnx", location), inputs=SMALL)
    (tmp_path / "in" / "w.bin").write_bytes(numbers[:100])
    with pytest.raises(ValueError, match="not there or is cut short"):
        load(outside(tmp_path / "in" / "t.onnx", "w.bin"), inputs=SMALL)


def node_with(operator: str, *inputs: str, **attributes: Any) -> list[Any]:
    return [onnx.helper.make_node(operator, [*inputs], ["y"], **attributes)]


@pytest.mark.parametrize(
    ("nodes", "weights", "words"),
    [
        (lambda: node_with("ConstantOfShape", "s"), {"s": np.array([2**40])}, "t.onnx"),
        (lambda: node_with("Tile", "x", "s"), {"s": np.array([1, 2**20, 1, 1])}, "MiB"),
        (lambda: node_with("Tile", "x", "s"), {"s": np.array([1, 2**20, 2**20, 1])}, "t.onnx"),
        (lambda: node_with("Nothing", "x"), {}, "t.onnx"),
        (lambda: node_with("Add", "x", "missing"), {}, "t.onnx"),
    ],
)
def test_a_hostile_graph_is_refused(nodes: Any, weights: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        load(graph_of(nodes(), tmp_path / "t.onnx", weights), inputs=SMALL)


@pytest.mark.parametrize("content", [b"", b"not ONNX", b"\x08\x09" * 50])
def test_what_is_no_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"t\.onnx"):
        load(tmp_path / "t.onnx", inputs=InputSpec(shape=(3, 16, 16)))


def test_its_packages_are_named_where_they_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    (tmp_path / "t.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"pip install 'datafree\[onnx\]'"):
        load(tmp_path / "t.onnx")


def test_a_teacher_leaves_the_black_box_that_it_copies_as_it_was(tmp_path: Path) -> None:
    file, node = tmp_path / "t.onnx", onnx.helper.make_node
    weights = {"w": np.random.default_rng(0).normal(size=(768, 10)).astype("float32"), "zero": np.zeros(1, "float32")}
    nodes = [node("Flatten", ["x"], ["f"]), node("MatMul", ["f", "w"], ["m"]), node("Hardmax", ["m"], ["h"])]
    nodes += [node("Mul", ["h", "zero"], ["n"]), node("Add", ["m", "n"], ["a"]), node("Softmax", ["a"], ["y"])]
    found = load(graph_of(nodes, file, weights), inputs=SMALL)
    assert found.card.architecture == "onnx"
    before = found.module(images())
    logits = Teacher(found.module, SMALL, Runtime("cpu"))(images())
    assert torch.equal(logits, before.clamp_min(torch.finfo(torch.float32).tiny).log())
    assert torch.equal(found.module(images()), before)
