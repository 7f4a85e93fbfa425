"""Networks as people save them: each row of docs/checkpoints.md loads to the bit, or is refused in its words."""

import re
from pathlib import Path

import pytest
from checkpoint_kept import KEPT
from checkpoint_refused import REFUSED
from checkpoint_rows import Row
from helpers import INPUTS, TINY, network

from datafree import pack
from datafree.core.filetypes import DESCRIPTIONS
from datafree.networks.network import load

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
