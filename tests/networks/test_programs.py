"""Programs of torch.export: the same network to the bit, with its layers under their names, from a file that runs no code."""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from helpers import network
from mutation_ways import raw, tree
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from datafree import Card, InputSpec, Network, distill, evaluate, inspect, load, pack
from datafree.networks.inside.folding import fold_batch_norms
from datafree.networks.inside.taps import norm_names, norm_statistics, stage_maps
from datafree.networks.outputs import gradient_arrives
from datafree.networks.programs.graph import parse
from datafree.networks.programs.program import Program
from datafree.networks.sources import as_network
from datafree.recipes import find_recipe

SMALL = InputSpec(shape=(3, 16, 16), mean=(0.5,), std=(0.25,))


def with_statistics(module: nn.Module) -> nn.Module:
    """The module with batch norms as after training on something."""
    random = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.1, generator=random)
            layer.running_var.uniform_(0.5, 2, generator=random)
    return module.eval()


def export(module: nn.Module, path: Path, images: int = 1, shape: tuple[int, ...] = SMALL.shape, **how: Any) -> Path:
    """The module as `torch.export.save` writes it, made for so many images."""
    torch.export.save(torch.export.export(module, (torch.randn(images, *shape),), **how), path)
    return path


@pytest.fixture(scope="module")
def resnet() -> Network:
    return Network(with_statistics(network(3, "resnet20", SMALL).module), network(3, "resnet20", SMALL).card)


@pytest.fixture(scope="module")
def exported(resnet: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(resnet.module, tmp_path_factory.mktemp("exported") / "resnet.pt2")


def images(count: int = 3, shape: tuple[int, ...] = SMALL.shape) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(2))


def test_a_program_is_the_same_network(exported: Path, resnet: Network) -> None:
    found = load(exported)
    x = images()
    assert torch.equal(found.module(x), resnet.module(x))
    assert norm_names(found.module) == norm_names(resnet.module)
    assert stage_maps(found.module, x[:1]) == stage_maps(resnet.module, x[:1])
    assert {*found.module.state_dict()} == {*resnet.module.state_dict()}
    assert found.card.inputs == InputSpec(shape=SMALL.shape)
    assert (found.card.classes, found.card.task, found.card.architecture) == (10, "classification", "program")
    assert any("pixels in [0, 1]" in note for note in found.notes)


def test_its_norms_give_the_same_statistics_and_fold(exported: Path, resnet: Network) -> None:
    program, x = load(exported).module, images()
    with norm_statistics(program) as found, norm_statistics(resnet.module) as expected:
        program(x), resnet.module(x)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name].mean, expected[name].mean) for name in expected)
    folded, reference = fold_batch_norms(program, x), fold_batch_norms(resnet.module, x)
    assert not norm_names(folded)
    assert torch.equal(folded(x), reference(x))


def test_the_gradient_to_the_input_is_the_same(exported: Path, resnet: Network) -> None:
    program = load(exported).module
    assert gradient_arrives(program, SMALL)
    slopes = []
    for module in (program, resnet.module):
        x = images().requires_grad_()
        (slope,) = torch.autograd.grad(module(x).square().sum(), x)
        slopes.append(slope)
    assert torch.equal(*slopes)


def test_a_program_stays_in_eval_mode(exported: Path) -> None:
    program = load(exported).module.train()
    assert not any(layer.training for layer in program.modules())


def test_a_packed_program_is_the_same_network(exported: Path, resnet: Network, tmp_path: Path) -> None:
    packed = pack(exported, mean=SMALL.mean, std=SMALL.std)
    packed.save(tmp_path / "packed.safetensors")
    found = load(tmp_path / "packed.safetensors")
    assert torch.equal(found.module(images()), resnet.module(images()))
    assert found.card.inputs == SMALL
    assert found.card.history[0]["event"] == "packed"
    assert isinstance(found.module, Program)
    assert parse(found.module.graph.text()) == found.module.graph
    assert "auto" in inspect(tmp_path / "packed.safetensors")


def test_a_program_takes_no_architecture_and_its_own_classes(exported: Path) -> None:
    with pytest.raises(ValueError, match="leave --arch out"):
        pack(exported, "resnet20")
    with pytest.raises(ValueError, match="returns 10 classes, not 7"):
        pack(exported, classes=7)


def test_weights_need_an_architecture(resnet: Network, tmp_path: Path) -> None:
    torch.save(resnet.module.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match="--arch"):
        pack(tmp_path / "w.pt")


@pytest.mark.parametrize("recipe", ["fast-light", "deepinversion-cifar10"])
def test_a_program_teaches_the_same_student(recipe: str, exported: Path, resnet: Network, tmp_path: Path) -> None:
    small = find_recipe(recipe).dry_run()
    for name, teacher in (("program", exported), ("network", resnet)):
        distill(teacher, "small-cnn-quarter", recipe=small, inputs=SMALL, out=tmp_path / name, device="cpu", quiet=True, seed=5)
    students = [load_file(tmp_path / name / "student.safetensors") for name in ("program", "network")]
    assert all(torch.equal(value, students[1][name]) for name, value in students[0].items())


def test_a_program_is_no_student(exported: Path, resnet: Network) -> None:
    with pytest.raises(ValueError, match="cannot be trained"):
        distill(resnet, load(exported), recipe="fast-light", inputs=SMALL, quiet=True)


class Attention(nn.Module):
    """With a class token, and torch's own attention, whose layout puts the images second."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.attention = nn.MultiheadAttention(16, 4)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], 1).transpose(0, 1)
        mixed, _ = self.attention(tokens, tokens, tokens)
        return self.head((tokens + mixed)[0])


class Windows(nn.Module):
    """Cuts its maps into windows, as Swin does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        maps = self.stem(x).permute(0, 2, 3, 1).reshape(b, 4, 4, 4, 4, 8)
        windows = maps.permute(0, 1, 3, 2, 4, 5).reshape(b * 16, 16, 8)
        mixed = windows + self.mix(windows)
        whole = mixed.view(b, 4, 4, 4, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(b, 256, 8)
        return self.head((whole + torch.zeros(b, 1, 8)).mean(1))


@pytest.mark.parametrize("batch", [1, 2, 5, "any"])
@pytest.mark.parametrize("kind", [Attention, Windows])
def test_a_fixed_number_of_images_is_freed(kind: type[nn.Module], batch: int | str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = kind().eval()
    dynamic = {"dynamic_shapes": ({0: torch.export.Dim("batch", min=1, max=64)},)} if batch == "any" else {}
    found = load(export(module, tmp_path / "m.pt2", 2 if batch == "any" else int(batch), **dynamic)).module
    for count in (1, 3, 4):
        assert torch.equal(found(images(count)), module(images(count)))


class Bound(nn.Module):
    """Its answer to an image depends on how many there are."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :10] + x.mean(0).flatten()[:10]


class Fixed(nn.Module):
    """It has a weight for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Parameter(torch.randn(2, 10))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :10] + self.each


def test_what_serves_only_its_number_of_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"answers otherwise to others.*dynamic_shapes"):
        load(export(Bound().eval(), tmp_path / "m.pt2", 2))
    with pytest.raises(ValueError, match=r"exported for batches of 2, and with 4 it fails .*dynamic_shapes"):
        load(export(Fixed().eval(), tmp_path / "m.pt2", 2))


class Mapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main, self.aux = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"aux": self.aux(x), "out": self.main(x)}


def test_a_mapping_stays_one(tmp_path: Path) -> None:
    module = Mapped().eval()
    found = load(export(module, tmp_path / "m.pt2"))
    assert found.card.task == "segmentation"
    assert torch.equal(found.module(images())["out"], module(images())["out"])


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 10)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(torch.relu(self.norm(self.conv(x))).mean((2, 3))))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_was_exported_in_train_mode_runs_in_eval_mode(tmp_path: Path) -> None:
    module = with_statistics(Dropping())
    path = export(module.train(), tmp_path / "m.pt2", 2)
    assert torch.equal(load(path).module(images()), module.eval()(images()))


class Beside(nn.Module):
    """A linear layer without a bias, and a weight of that name beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(768, 10, bias=False)
        self.mix.register_parameter("bias", nn.Parameter(torch.ones(10)))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.flatten(1), self.mix.weight) - 2 * self.mix.bias


def test_a_weight_that_a_layer_does_not_use_does_not_become_its_own(tmp_path: Path) -> None:
    module = Beside().eval()
    assert torch.equal(load(export(module, tmp_path / "m.pt2")).module(images()), module(images()))


def test_core_operators_keep_their_norms(tmp_path: Path, resnet: Network) -> None:
    program = torch.export.export(resnet.module, (images(2),)).run_decompositions()
    torch.export.save(program, tmp_path / "m.pt2")
    found = load(tmp_path / "m.pt2").module
    assert norm_names(found) == norm_names(resnet.module)
    torch.testing.assert_close(found(images()), resnet.module(images()), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "side"), [("test_vit", 160), ("mobilenetv3_small_050", 64), ("test_convnext", 64)])
def test_networks_of_timm_are_the_same(name: str, side: int, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=10).eval()
    found = load(export(module, tmp_path / "m.pt2", shape=(3, side, side)))
    x = images(2, (3, side, side))
    assert torch.equal(found.module(x), module(x))
    assert sum(w.numel() for w in found.module.parameters()) == sum(w.numel() for w in module.parameters())


def test_archives_of_earlier_versions_of_torch_are_read(exported: Path, resnet: Network, tmp_path: Path) -> None:
    weights, constants = io.BytesIO(), io.BytesIO()
    torch.save(dict(resnet.module.state_dict()), weights)
    torch.save({}, constants)

    def graph_only(name: str, data: bytes) -> bytes | None:
        return data if "models/" in name or name.endswith("archive_format") else None

    with_pickles = respelt(exported, tmp_path / "2.8.pt2", graph_only)
    with zipfile.ZipFile(with_pickles, "a") as packed:
        root = packed.namelist()[0].partition("/")[0]
        packed.writestr(f"{root}/data/weights/model.pt", weights.getvalue())
        packed.writestr(f"{root}/data/constants/model.pt", constants.getvalue())
    with zipfile.ZipFile(exported) as now, zipfile.ZipFile(tmp_path / "2.6.pt2", "w") as packed:
        graph = next(name for name in now.namelist() if name.endswith("models/model.json"))
        packed.writestr("serialized_exported_program.json", now.read(graph))
        packed.writestr("serialized_state_dict.pt", weights.getvalue())
        packed.writestr("serialized_constants.pt", constants.getvalue())
        packed.writestr("version", "8.2")
    for name in ("2.8.pt2", "2.6.pt2"):
        assert torch.equal(load(tmp_path / name).module(images()), resnet.module(images()))


# What a hostile file may hold.


def respelt(path: Path, out: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of an archive in which `change(name, bytes)` replaces each entry; None leaves it out."""
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(out, "w") as after:
        for name in before.namelist():
            if (data := change(name, before.read(name))) is not None:
                after.writestr(name, data)
    return out


def changed_json(path: Path, out: Path, ending: str, change: Callable[[Any], object]) -> Path:
    def one(name: str, data: bytes) -> bytes:
        if not name.endswith(ending):
            return data
        tree = json.loads(data)
        change(tree)
        return json.dumps(tree).encode()

    return respelt(path, out, one)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch PWNED",)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "PWNED").exists()


def test_a_pickle_in_the_archive_is_not_run(exported: Path, here: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"x": Evil()}, buffer)

    def pickled(tree: Any) -> None:
        tree["config"]["conv1.weight"]["use_pickle"] = True

    listed = changed_json(exported, here / "listed.pt2", "weights_config.json", pickled)
    evil = respelt(listed, here / "evil.pt2", lambda name, data: buffer.getvalue() if name.endswith("weight_0") else data)
    with pytest.raises(ValueError, match="would run its code"):
        load(evil)
    inputs = respelt(exported, here / "inputs.pt2", lambda name, data: buffer.getvalue() if "sample_inputs" in name else data)
    assert load(inputs).card.classes == 10, "the sample inputs are not read"


def first_node(tree: Any, **changes: Any) -> None:
    tree["graph_module"]["graph"]["nodes"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tree: first_node(tree, target="torch.ops.aten.from_file.default"), r"operator 'from_file\.default'"),
        (lambda tree: first_node(tree, target="torch.ops.evil.run.default"), r"operator 'torch\.ops\.evil\.run\.default'"),
        (lambda tree: first_node(tree, target="os.system"), r"operator 'os\.system'"),
        (lambda tree: first_node(tree, inputs=[]), "another form|fails in|argument"),
        (lambda tree: tree["graph_module"]["graph"].pop("nodes"), "another form"),
        (lambda tree: tree["graph_module"].update(graph=[[]]), "another form"),
        (lambda tree: tree["graph_module"]["graph"]["nodes"].reverse(), "another form|reads a value"),
        (
            lambda tree: tree["graph_module"]["graph"]["tensor_values"]["x"].update(sizes=[{"as_int": 2**40}] * 4),
            "takes inputs of",
        ),
    ],
)
def test_a_spoilt_graph_is_refused(change: Callable[[Any], object], words: str, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        load(changed_json(exported, tmp_path / "m.pt2", "model.json", change))


def full_of(size: int) -> Callable[[Any], None]:
    """Makes a tensor of that many zeros, and adds it to the logits."""

    def change(tree: Any) -> None:
        graph = tree["graph_module"]["graph"]
        zeros = {"name": "size", "arg": {"as_ints": [size]}, "kind": 1}
        made = {"target": "torch.ops.aten.zeros.default", "inputs": [zeros], "metadata": {}}
        graph["nodes"].insert(0, {**made, "outputs": [{"as_tensor": {"name": "huge"}}]})

    return change


@pytest.mark.parametrize("size", [2**28, 2**40, 2**62])
def test_a_graph_that_asks_for_terabytes_is_refused(size: int, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"MiB|fails in"):
        load(changed_json(exported, tmp_path / "m.pt2", "model.json", full_of(size)))


@pytest.mark.parametrize("sizes", [[2**40], [2**20, 2**20, 2**20], [-1, 3, 3, 3], [], ["x"]])
def test_weights_of_other_sizes_than_the_file_holds_are_refused(sizes: list[Any], exported: Path, tmp_path: Path) -> None:
    def change(tree: Any) -> None:
        tree["config"]["conv1.weight"]["tensor_meta"]["sizes"] = [{"as_int": size} for size in sizes]

    with pytest.raises(ValueError, match=r"m\.pt2"):
        load(changed_json(exported, tmp_path / "m.pt2", "weights_config.json", change))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_program_that_is_cut_short_is_refused(share: float, exported: Path, tmp_path: Path) -> None:
    whole = exported.read_bytes()
    (tmp_path / "cut.pt2").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"cut\.pt2"):
        load(tmp_path / "cut.pt2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Expecting value"),
        ("[" * 100_000, "recursion"),
        ("[1,[3,16,16],[],[1],[],[]]", "returns no value"),
        ('[1,[3,16,16],[["relu.default",["%5"],[],1,""]],[1],[],[]]', "reads a value"),
        ('[1,[3,16,16],[["relu.default",["?"],[],1,""]],[1],[],[]]', "which is none"),
        ('[1,[3,16,16],[["zeros.default",[[99999999999999]],[],1,""]],[1],[],[]]', "MiB"),
        ('[1,[3,16,16],[["system.default",["%0"],[],1,""]],[1],[],[]]', "operator 'system.default'"),
        ('[1,[3,16,16],[["conv2d.default",["%0","$forward"],[],1,""]],[1],[],[]]', "lacks 1 of its weights"),
        ('[1,[3,16,16],[["mul.Tensor",["%0","$forward.x"],[],1,""]],[1],[],[]]', "lacks 1 of its weights"),
        ('[1,[3,16,16],[["mul.Tensor",["%0","$train"],[],1,""]],[1],[],[]]', "name that none can have"),
    ],
)
def test_a_spoilt_text_of_a_program_is_refused(text: str, words: str, tmp_path: Path) -> None:
    card = Card(architecture="program", classes=10, inputs=SMALL).model_dump_json()
    save_file({"train": torch.ones(1)}, tmp_path / "p.safetensors", metadata={"datafree.card": card, "datafree.program": text})
    with pytest.raises(ValueError, match=words):
        load(tmp_path / "p.safetensors")


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_spoilt_in_a_program_is_refused_in_a_sentence(seed: int, attentive: Path, tmp_path: Path) -> None:
    random = Random(seed)

    def spoil(name: str, data: bytes) -> bytes:
        if not name.endswith(("model.json", "config.json")[seed % 2]):
            return raw(random, data) if seed % 7 == 0 and random.random() < 0.1 else data
        return json.dumps(tree(random, json.loads(data))).encode("utf-8", "replace")

    said = "."
    try:
        as_network(respelt(attentive, tmp_path / "m.pt2", spoil))
    except ValueError as error:  # or it is served: some spoils do not matter
        said = str(error)
    assert said.endswith(".")
    assert "\n" not in said


@pytest.fixture(scope="module")
def attentive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return export(Attention().eval(), tmp_path_factory.mktemp("attentive") / "m.pt2")


def test_a_card_that_says_program_needs_a_graph(tmp_path: Path) -> None:
    card = Card(architecture="program", classes=10, inputs=SMALL).model_dump_json()
    save_file({"x": torch.ones(1)}, tmp_path / "p.safetensors", metadata={"datafree.card": card})
    with pytest.raises(ValueError, match="The program in"):
        load(tmp_path / "p.safetensors")


def test_evaluate_takes_a_program(exported: Path, resnet: Network, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=pixels, labels=np.arange(20) % 10)
    shutil.copy(exported, tmp_path / "teacher.bin")  # the name says nothing
    score = evaluate(tmp_path / "teacher.bin", str(tmp_path / "data.npz"), inputs=SMALL, against=resnet, device="cpu")
    assert score.agreement == 100
