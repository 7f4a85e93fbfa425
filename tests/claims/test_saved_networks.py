"""Networks as people save them: each row of docs/checkpoints.md loads to the bit, or is refused in its words."""

import re
from pathlib import Path

import pytest
import torch
from checkpoint_kept import KEPT
from checkpoint_refused import REFUSED, exported, onnx, scripted
from checkpoint_rows import Row
from helpers import INPUTS, TINY, network

from datafree import pack
from datafree.core.filetypes import DESCRIPTIONS, FileType
from datafree.data.sets import read_set
from datafree.networks.network import load
from datafree.networks.programs.files import ONNX, kind_of
from datafree.networks.sources import student_for
from datafree.networks.start import start_from

WHAT = {f"is {what}" for what, _ in DESCRIPTIONS.values()} - {"is a folder"}
DOCUMENT = Path(__file__).parents[2] / "docs" / "checkpoints.md"
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit", "ignore:torch.quantize", "ignore:.*TypedStorage", "ignore:.*torch.package"
)


def made(row: Row, folder: Path) -> Path:
    path = folder / row.file
    row.make(path, network(1).module, network(2).module)
    return path


@pytest.mark.parametrize("row", KEPT, ids=lambda row: " ".join(row.cells)[:60])
def test_it_loads_to_the_bit(row: Row, tmp_path: Path) -> None:
    packed = pack(made(row, tmp_path), TINY, INPUTS, 10, which=row.which)
    expected = network(2 if row.second else 1).module.state_dict()
    found = packed.module.state_dict()
    assert found.keys() == expected.keys()
    assert all(value.equal(found[name]) for name, value in expected.items())
    event = packed.card.history[-1]
    assert event["from"] == row.file
    assert {name: event.get(name) for name in row.entries} == row.entries
    unsaid = {"taken", "dropped", "left", "weights", "unread"} - row.entries.keys()
    assert not unsaid & event.keys()


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name[:60])
def test_it_is_refused_in_words(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = made(row, tmp_path)
    with pytest.raises(ValueError, match=re.escape(row.says)) as caught:
        pack(path, TINY, INPUTS, 10, which=row.which)
    said = str(caught.value)
    assert str(path) in said
    assert "\n" not in said
    assert said.endswith(".")
    assert not (tmp_path / "canary").exists()
    if "would run its code" not in row.says:
        assert "would run its code" not in said


@pytest.mark.parametrize("row", [row for row in REFUSED if row.says in WHAT], ids=lambda row: row.name[:60])
def test_other_files_are_named_where_a_network_file_is_asked_for(row: Row, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{row.says}.*, not a safetensors file; "):
        load(made(row, tmp_path))


def test_a_file_of_weights_is_not_a_network_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"w\.pt is a file of torch\.save, .* with `datafree pack`\.$"):
        load(made(Row("", KEPT[0].make, file="w.pt"), tmp_path))


def test_the_document_has_these_rows() -> None:
    lines = re.findall(r"^\| (.+?) \| ((?:loads|refused).*) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert lines == [row.cells for row in (*KEPT, *REFUSED)]
    assert len(lines) >= 40


@pytest.mark.parametrize("kind", ["torchscript", "torch.export"])
def test_the_advice_for_a_whole_network_in_place_of_weights_works(kind: FileType, tmp_path: Path) -> None:
    row = {"torchscript": scripted, "torch.export": exported}[kind]
    file, module = tmp_path / "FILE", network(1).module
    row(file, module, module)
    with pytest.raises(ValueError, match=re.escape(DESCRIPTIONS[kind][1])):
        start_from(network(2).module, file, module)
    code = DESCRIPTIONS[kind][1].removeprefix("save its weights, ").replace("FILE", repr(str(file)))
    exec(code.replace("weights.pt", str(tmp_path / "weights.pt")), {"torch": torch})
    began = network(2).module
    assert "100 % of the weights" in start_from(began, tmp_path / "weights.pt", module)
    assert all(value.equal(module.state_dict()[name]) for name, value in began.state_dict().items())


def test_onnx_is_known_by_its_bytes(tmp_path: Path) -> None:
    onnx(tmp_path / "network.bin")
    assert kind_of(tmp_path / "network.bin") == ONNX
    with pytest.raises(ValueError, match=r"is an ONNX network, not a transfer set; give one that `datafree synthesize` wrote"):
        read_set(tmp_path / "network.bin")


def test_a_file_named_as_the_student_is_refused_with_what_to_do(tmp_path: Path) -> None:
    exported(tmp_path / "student.pt2", network(1).module, network(2).module)
    with pytest.raises(ValueError, match=r"student.pt2 is a file, .* add --student-weights .*student.pt2\.$"):
        student_for(str(tmp_path / "student.pt2"), network(1).card)
