"""Networks and weights of others: each is served, or refused in one sentence that says what to do."""

import json
import pickle
import sys
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import INPUTS, TINY, network
from hypothesis import given
from hypothesis import strategies as st
from mutation_archives import hungry
from safetensors.torch import save_file
from torch import Tensor, nn

from datafree import (
    DDA,
    Blend,
    Card,
    InputSpec,
    Network,
    Plan,
    Procedural,
    Recipe,
    Stored,
    distill,
    evaluate,
    inspect,
    pack,
    synthesize,
)
from datafree.cli import main
from datafree.core.pickles import read_torch
from datafree.core.runtime import Runtime
from datafree.data.labelled import Labelled
from datafree.engine.record import read_checkpoint
from datafree.networks.building import work
from datafree.networks.building.work import refuse_costly
from datafree.networks.inside import health
from datafree.networks.network import load
from datafree.networks.outputs import gradient_arrives, kind_of_outputs, probe
from datafree.networks.saved.weights import read_weights
from datafree.networks.teacher import Teacher

PLAN = Plan(rounds=2, steps=1, batch=4, log_every=1, eval_every=0, grid_every=0, save_every=9)
inspection = import_module("datafree.api.inspect")  # whose name in the package is the function's
Make = Callable[[nn.Module], nn.Module]


EXITS = """
import sys, torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
    def forward(self, x):
        sys.exit(0)
def make():
    return Net()
"""


class Wrapped(nn.Module):
    """A network whose outputs are changed by `change`."""

    def __init__(self, inside: nn.Module, change: Callable[[Tensor], Any]):
        super().__init__()
        self.inside, self.change = inside, change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.inside(x))


class Unfit(nn.Module):
    """A network of others that raises something in its forward, whatever that is."""

    def __init__(self, error: BaseException):
        super().__init__()
        self.weight, self.error = nn.Parameter(torch.ones(1)), error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


class Picky(nn.Module):
    """A network that takes only batches of `size`, and in all at most `most` of them."""

    def __init__(self, size: int | None, most: int = 10**9):
        super().__init__()
        self.inside, self.size, self.most, self.calls = network(1).module, size, most, 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        if self.size not in (None, len(x)) or self.calls > self.most:
            raise KeyError("not this batch")
        return self.inside(x)


class Two(nn.Module):
    """A forward with two required arguments."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def taught_by(module: nn.Module, recipe: str | Recipe = "dfad-digits") -> None:
    chosen = Recipe(Procedural(supply={"batch": 4, "candidates": 2}), PLAN, "test") if recipe == "procedural" else recipe
    distill(module, TINY, inputs=INPUTS, recipe=chosen, quiet=True, device="cpu")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Two(), "takes one tensor"),
        (Unfit(AssertionError("wrong size 224")), "wrong size 224"),
        (Unfit(KeyError("image")), "refuses inputs"),
        (Unfit(ZeroDivisionError()), "ZeroDivisionError"),
        (Unfit(SystemExit(0)), "calls for the end of this program, SystemExit"),
        (Unfit(GeneratorExit()), "calls for the end of this program, GeneratorExit"),
        (Unfit(StopIteration()), "StopIteration"),
        (Wrapped(network(1).module, lambda z: z[:, :1]), "torch.cat"),
        (Wrapped(network(1).module, lambda z: z[:, 0]), r"returns \[2\]"),
        (Wrapped(network(1).module, torch.sigmoid), "a probability for each class by itself"),
        (Wrapped(network(1).module, torch.nn.functional.logsigmoid), "as of a log-sigmoid"),
        (Wrapped(network(1).module, lambda z: 0 * z + 1), "the same outputs"),
        (network(1).module.half(), r"\.float\(\)"),
    ],
    ids=[
        "two",
        "assertion",
        "key",
        "division",
        "exit",
        "generator",
        "stop",
        "one-logit",
        "no-classes",
        "sigmoid",
        "log-sigmoid",
        "constant",
        "half",
    ],
)
def test_a_teacher_that_cannot_teach_is_refused_in_words(module: nn.Module, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        taught_by(module)
    assert "\n" not in str(caught.value)


def test_a_network_that_fails_after_the_probes_ends_every_verb_in_one_sentence() -> None:
    said = r"^The (teacher|network) refuses inputs of 1x8x8: 'not this batch'\. Pass [^:]*, of any number of images\.$"
    data = Labelled(torch.zeros(5, 1, 8, 8, dtype=torch.uint8), torch.arange(5), 10, "data")
    with pytest.raises(ValueError, match=said):
        evaluate(Picky(2), data, inputs=INPUTS, device="cpu")
    for size, most in ((2, 10**9), (None, 8)):
        with pytest.raises(ValueError, match=said):
            taught_by(Picky(size, most), "procedural")
    for size, most in ((2, 10**9), (None, 12)):
        with pytest.raises(ValueError, match=said):
            synthesize(Picky(size, most), "dafl-mnist-light", 40, batch=4, inputs=INPUTS, device="cpu", quiet=True)


def test_ctrl_c_in_a_network_of_others_still_ends_the_program() -> None:
    with pytest.raises(KeyboardInterrupt):
        taught_by(Unfit(KeyboardInterrupt()))


@pytest.mark.parametrize("code", ["import sys; sys.exit(0)", "import sys\ndef make():\n    sys.exit(0)", EXITS])
def test_a_network_whose_code_ends_the_program_is_named(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop_that_ends.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shop_that_ends", raising=False)
    torch.save({"weight": torch.ones(1)}, tmp_path / "w.pt")
    line = f"pack {tmp_path / 'w.pt'} --arch shop_that_ends:make --inputs 1x8x8 --classes 10 --out {tmp_path / 'packed'}"
    assert main([*line.split(), "--allow-code", "shop_that_ends"]) == 1
    assert "its code calls for the end of this program, SystemExit(0)" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize("blocked", [lambda z: z.detach(), lambda z: z.round()])
def test_a_teacher_without_gradient_serves_methods_that_need_none(blocked: Callable[[Tensor], Tensor]) -> None:
    module = Wrapped(network(1).module, blocked)
    with pytest.raises(ValueError, match="use procedural, or stored"):
        taught_by(module)
    taught_by(module, "procedural")


def test_a_method_around_a_host_needs_what_the_host_needs(tmp_path: Path) -> None:
    for host, needs in ((Stored(path=tmp_path), False), (Procedural(), False), (DDA().host, True)):
        assert DDA(host=host).needs_gradient == Blend(host=host).needs_gradient == host.needs_gradient == needs


@pytest.mark.parametrize("kind", ["probabilities", "log-probabilities", "logits", "map"])
def test_other_outputs_are_the_same_teacher(kind: str) -> None:
    plain, x = network(1).module, torch.randn(5, *INPUTS.shape)
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "probabilities": lambda z: z.softmax(1),
        "log-probabilities": lambda z: z.log_softmax(1),
        "logits": lambda z: z,
        "map": lambda z: z[:, :, None, None],  # of a convolutional head
    }
    teacher = Teacher(Wrapped(plain, changes[kind]), INPUTS, Runtime("cpu"))
    assert teacher.outputs == ("logits" if kind == "map" else kind)
    for answer in (teacher(x), teacher.fast(x)):
        assert answer.shape == (5, 10)
        assert torch.allclose(answer.log_softmax(1), plain(x).log_softmax(1), atol=1e-5)


BOUNDED: dict[str, Callable[[Tensor], Tensor]] = {
    "normalised": lambda z: nn.functional.normalize(z.abs()),
    "cut": lambda z: nn.functional.normalize(z).relu(),
    "shifted sigmoid": lambda z: z.sigmoid() + 1,  # what the sentence of the refusal asks for
    "cut from below": lambda z: -z.relu(),
    "distances": lambda z: -(z - 3).square() - 0.1,
}


@pytest.mark.parametrize("change", BOUNDED.values(), ids=BOUNDED)
def test_logits_that_lie_in_a_range_are_not_taken_for_a_sigmoid(change: Callable[[Tensor], Tensor]) -> None:
    teacher = Teacher(Wrapped(network(1).module, change), INPUTS, Runtime("cpu"))
    assert teacher.outputs.endswith("logits")
    assert ("log-sigmoid" in teacher.note) == (teacher.outputs == "negative logits")
    teacher.refuse_outputs()


def test_weights_that_are_not_finite_are_named_by_every_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = network(1)
    with torch.no_grad():
        broken.module.conv1.weight[0, 0, 0, 0] = torch.inf
    file, state = tmp_path / "teacher.safetensors", tmp_path / "weights.pt"
    broken.save(file)
    torch.save(broken.module.state_dict(), state)
    np.savez(tmp_path / "data.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(4))
    assert "conv1.weight first" in inspect(file)["broken"]
    for line in (
        f"distill {file} --student {TINY} --recipe dfad-digits --out {tmp_path / 'run'}",
        f"evaluate {file} --data {tmp_path / 'data.npz'}",
        f"pack {state} --arch {TINY} --inputs 1x8x8 --classes 10 --out {tmp_path / 'packed'}",
    ):
        assert main(line.split()) == 1, line
        assert "NaN or infinity" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "packed").exists()


def test_a_pickle_that_would_take_memory_by_a_number_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "load", None)
    for value in hungry():
        for new in (True, False):
            torch.save({"x": value}, tmp_path / "weights.pt", _use_new_zipfile_serialization=new)
            with pytest.raises(ValueError, match="does not hold plain weights: reading it would run its code"):
                read_weights(tmp_path / "weights.pt")
            with pytest.raises(ValueError, match=r"is not a checkpoint of this run \(it calls"):
                read_checkpoint(tmp_path / "weights.pt")
        (tmp_path / "weights.pt").write_bytes(pickle.dumps(value, protocol=2))
        with pytest.raises(ValueError, match="reading it would run its code"):
            read_weights(tmp_path / "weights.pt")


@pytest.mark.parametrize("start", [b"", b"\x80\x02c", b"\x80\x02X\xff\xff\xff\x7f"])
def test_weights_without_an_end_are_not_read_to_it(start: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", None)
    with zipfile.ZipFile(tmp_path / "weights.pt", "w") as packed:
        packed.writestr("archive/data.pkl", start + bytes(2**20))
    with (tmp_path / "old.pt").open("wb") as file:
        file.write(start)
        file.truncate(2**33)
    for name in ("weights.pt", "old.pt"):
        with pytest.raises(ValueError, match="is not a weights file that torch can read"):
            read_weights(tmp_path / name)


def test_plain_values_of_every_kind_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    whole = torch.arange(6.0).view(2, 3)
    values: dict[str, Any] = {
        "state_dict": network(1).module.state_dict(),
        "list": [1, 2**40, -1.5, None, True, "x", (), (1,), (1, 2, 3), {3}, b"bytes", 2j, torch.Size([2]), torch.float16],
        "tensors": {"view": whole[:, 1:], "half": torch.nn.Parameter(whole.half())},
        "counted": Counter("xxy"),
        "ordered": OrderedDict(a=[whole, [whole]]),
        "device": torch.device("cpu"),
    }
    for new in (True, False):
        torch.save(values, tmp_path / "values.pt", _use_new_zipfile_serialization=new)
        assert repr(read_torch(tmp_path / "values.pt")) == repr(values)
    torch.save(whole.to(torch.float8_e4m3fn), tmp_path / "values.pt")  # which has no old form
    assert read_torch(tmp_path / "values.pt").float().equal(whole)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization", "ignore:torch.quantize", "ignore:.*TypedStorage")
@pytest.mark.parametrize("kind", [torch.qint8, torch.float16])
def test_a_quantised_network_is_called_so(kind: torch.dtype, tmp_path: Path) -> None:
    module = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), dtype=kind)
    torch.save({"state_dict": module.state_dict()}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="holds the weights of a quantised network"):
        read_weights(tmp_path / "weights.pt")


@pytest.mark.parametrize(("layer", "value"), [("fc1.weight", 3e38), ("bn1.running_var", -1.0)])
def test_finite_weights_whose_answers_are_not_are_named_by_every_verb(
    layer: str, value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = network(1)
    broken.module.state_dict()[layer].fill_(value)
    file, state = tmp_path / "teacher.safetensors", tmp_path / "weights.pt"
    broken.save(file)
    torch.save(broken.module.state_dict(), state)
    np.savez(tmp_path / "data.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(4))
    shown = inspect(file)
    assert f"not finite, first in layer '{layer.partition('.')[0]}'" in shown["broken"]
    assert not {"auto", "logit scale", "noise"} & shown.keys()
    good = tmp_path / "good.safetensors"
    network(1).save(good)
    for line in (
        f"evaluate {file} --data {tmp_path / 'data.npz'}",
        f"evaluate {good} --against {file} --data {tmp_path / 'data.npz'}",
        f"pack {state} --arch {TINY} --inputs 1x8x8 --classes 10 --out {tmp_path / 'packed'}",
        f"synthesize {file} --recipe dafl-mnist-light --n 4 --out {tmp_path / 'set.safetensors'}",
    ):
        assert main(line.split()) == 1, line
        assert "outputs for noise are not finite, first in layer" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "packed").exists()


def test_answers_that_break_outside_of_all_layers_are_refused_without_a_layer() -> None:
    with pytest.raises(ValueError, match="not finite, though each layer's are; check") as caught:
        taught_by(Wrapped(network(1).module, lambda z: z / 0))
    assert "None" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_weights_that_are_no_plain_numbers_and_files_that_are_none_are_refused(tmp_path: Path) -> None:
    state = dict(network(1).module.state_dict())
    name, first = next((name, value) for name, value in state.items() if value.is_floating_point())
    odd: dict[str, Any] = {
        "quantised network": torch.quantize_per_tensor(first, 0.1, 0, torch.qint8),
        "sparse": first.to_sparse(),
        "without its numbers": first.to("meta"),
    }
    for what, value in odd.items():
        torch.save(state | {name: value}, tmp_path / "weights.pt")
        with pytest.raises(ValueError, match=f"{what}|not a weights file"):
            pack(tmp_path / "weights.pt", TINY, INPUTS, 10)
    torch.save(state | {3: first}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="no text"):
        pack(tmp_path / "weights.pt", TINY, INPUTS, 10)


def test_pack_checks_the_number_of_classes_of_a_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_of_mine.py").write_text(
        "from torch import nn\ndef make(**options):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    torch.save({"1.weight": torch.randn(10, 64), "1.bias": torch.randn(10)}, tmp_path / "weights.pt")
    assert pack(tmp_path / "weights.pt", "shop_of_mine:make", INPUTS, 10, allow_code=["shop_of_mine"]).card.classes == 10
    with pytest.raises(ValueError, match=r"returns 10 classes, and its card says 7"):
        pack(tmp_path / "weights.pt", "shop_of_mine:make", INPUTS, 7, allow_code=["shop_of_mine"])


def one_sentence(read: Callable[[], object]) -> str | None:
    """What `read` says where it refuses; None if it does not. Anything but one `ValueError` of one line fails."""
    try:
        read()
    except ValueError as error:
        said = str(error)
    else:
        return None
    assert "\n" not in said
    return said


def carded(tmp_path: Path, **changes: Any) -> Path:
    """A file of a network whose card says something else."""
    good = network(1)
    card = json.loads(good.card.model_dump_json()) | changes
    file = tmp_path / "network.safetensors"
    save_file(dict(good.module.state_dict()), file, metadata={"datafree.card": json.dumps(card)})
    return file


OPTIONS: dict[str, dict[str, Any]] = {
    "wide": {"width": 10**9},
    "flat": {"width": 0},
    "negative": {"width": -1},
    "infinite": {"width": 1e400},
    "word": {"width": "many"},
    "unknown": {"plan": 5},
    "elsewhere": {"device": "cuda"},
    "file": {"pretrained": True},
}


@pytest.mark.parametrize("architecture", [TINY, "wrn-16-1", "resnet20", "timm:resnet18", "timm:vit_tiny_patch16_224"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_no_option_of_a_card_ends_otherwise_than_in_a_sentence(
    architecture: str, options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("timm", reason="timm builds some of these networks")
    assert main(["inspect", str(carded(tmp_path, architecture=architecture, options=options))]) == 1
    assert capsys.readouterr().err.count("\n") <= 2  # what is loading, and the sentence


@pytest.mark.parametrize("name", ["timm:resnet18.nosuchtag", "timm:vit_tiny_patch16_224.", "timm:hf-hub:a/b", "nothing"])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm has names of its own")
    with pytest.raises(ValueError, match=r"no network|named|do not fit|cannot be built"):
        load(carded(tmp_path, architecture=name))


@pytest.mark.parametrize("shape", [[1, 30000, 30000], [3, 0, 8], [1, 8], [1, 65536, 65536]])
def test_no_shape_of_a_card_takes_the_memory(shape: list[int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"card|values"):
        load(carded(tmp_path, inputs={"shape": shape}))


class Large(nn.Module):
    """A fully convolutional network of 10 classes, which takes inputs of any size."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv, self.head = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu_()).mean((2, 3))  # type: ignore[no-any-return]


@pytest.mark.parametrize("verb", [evaluate, distill, synthesize])
def test_an_input_that_takes_too_much_memory_is_refused_before_any_is_used(verb: Callable[..., object]) -> None:
    inputs = InputSpec(shape=(3, 2048, 2048))
    more: dict[str, Any] = {evaluate: {"data": "x"}, distill: {"student": TINY}, synthesize: {"method": "dfq", "n": 2}}[verb]
    with pytest.raises(ValueError, match=r"takes 1,[0-9]{3} MiB for one input of 3x2048x2048, and the limit is 768; give"):
        verb(Large(3, 64), **more, inputs=inputs)


def test_an_input_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = InputSpec(shape=(3, 256, 256))
    assert refuse_costly("network", Large(3, 16), inputs) is not None
    monkeypatch.setattr(work, "MOST_WORK", 10**7)
    with pytest.raises(ValueError, match=r"billion multiply-adds for one input of 3x256x256, and the limit"):
        refuse_costly("network", Large(3, 16), inputs)


def test_a_large_input_is_asked_about_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    inputs = InputSpec(shape=(3, 512, 512))
    module = Large(3, 2).eval()
    module.register_forward_pre_hook(lambda module, x: asked.append(len(x[0])))
    assert len(probe("network", module, inputs)) == 1
    assert kind_of_outputs(module, inputs) == "logits"
    assert gradient_arrives(module, inputs)
    assert asked == [1] * 6
    monkeypatch.setattr(health, "HEAVY_WORK", 0)
    found = health.examine(module, inputs, refuse_costly("network", module, inputs))
    assert set(asked) == {1}
    assert (found.probes, found.outputs, found.gradient, found.layers, found.ends_linear) == (1, "logits", True, 2, False)


def test_an_examination_that_cannot_be_afforded_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(architecture=TINY, classes=10, inputs=InputSpec(shape=(3, 256, 256)))
    monkeypatch.setattr(inspection, "load", lambda file, allow_code: Network(Large(3, 2).eval(), card))
    (tmp_path / "file").write_bytes(b"")
    assert "auto" in inspect(tmp_path / "file")
    for limit in ("MOST_LATENCY", "MOST_KEPT"):
        with monkeypatch.context() as patch:
            patch.setattr(inspection, limit, 0)
            shown = inspect(tmp_path / "file")
        assert shown["examination"].startswith("left out: a backward pass of one input takes ")
        assert "auto" not in shown


@given(data=st.data())
def test_any_bytes_of_a_header_end_in_a_sentence(data: st.DataObject, tmp_path: Path) -> None:
    """Offsets that are text, lists or null, types that are none, a header that is cut or longer than it says."""
    file = tmp_path / "network.safetensors"
    network(1).save(file)
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    name = data.draw(st.sampled_from(sorted(header)))
    strange = st.one_of(st.none(), st.text(max_size=5), st.integers(-(2**70), 2**70), st.lists(st.none(), max_size=3))
    if data.draw(st.booleans()) and name != "__metadata__":
        header[name][data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))] = data.draw(strange)
    else:
        header[name] = data.draw(strange)
    written = json.dumps(header).encode()
    length = data.draw(st.sampled_from([len(written), len(written) - 1, 0, 2**63 - 1]))
    file.write_bytes(length.to_bytes(8, "little") + written + content[8 + size :])
    said = one_sentence(lambda: load(file))
    assert said is None or str(file) in said
