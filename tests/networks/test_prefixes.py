"""The state dict that fits a network is found by the network's own names."""

from pathlib import Path

import pytest
import torch
from helpers import INPUTS, TINY, network
from torch import Tensor

from datafree import pack
from datafree.cli import main
from datafree.networks.network import load
from datafree.networks.saved.checkpoints import fit, states_in

FIRST, SECOND = network(1).module.state_dict(), network(2).module.state_dict()
LINE = f"--arch {TINY} --inputs 1x8x8 --classes 10"


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def test_a_prefix_that_the_file_lacks_is_added() -> None:
    for given in (FIRST, under("module.", FIRST)):
        found = fit(states_in(given), under("model.", FIRST), None, "w.pt")
        assert found.tensors.keys() == under("model.", FIRST).keys()
        assert found.added == "model."
    assert fit(states_in(under("model.", FIRST)), under("model.", FIRST), None, "w.pt").added == ""


def test_equal_copies_are_one() -> None:
    copies = {"last": FIRST, "best": {name: value.clone() for name, value in FIRST.items()}}
    assert fit(states_in(copies), FIRST, None, "w.pt").place == "last"


def test_the_whole_file_has_a_label_too() -> None:
    both = {**FIRST, **under("teacher.", SECOND)}
    with pytest.raises(ValueError, match=r"weights that fit, '\.', 'teacher', which differ; choose one, as --which \.\.$"):
        fit(states_in(both), FIRST, None, "w.pt")
    assert fit(states_in(both), FIRST, ".", "w.pt").tensors["fc1.weight"].equal(FIRST["fc1.weight"])
    assert fit(states_in(both), FIRST, "teacher", "w.pt").tensors["fc1.weight"].equal(SECOND["fc1.weight"])


def test_another_tensor_too_many_is_not_left_out(tmp_path: Path) -> None:
    for name in ("norm.weight", "fc1.scale", "lossless.weight", "accent.bias"):
        torch.save({**FIRST, name: torch.ones(3)}, tmp_path / "w.pt")
        with pytest.raises(ValueError, match=f"1 unexpected: {name}"):
            pack(tmp_path / "w.pt", TINY, INPUTS, 10)


@pytest.mark.parametrize("name", ["criterion.weight", "loss_fn.pos_weight", "train_acc.tp", "val_metrics.f1.tp", "n_averaged"])
def test_what_lies_beside_a_network_is_left_out(name: str) -> None:
    assert fit(states_in({**FIRST, name: torch.ones(3)}), FIRST, None, "w.pt").left == (name,)


def test_what_does_not_fit_is_named_with_its_place(tmp_path: Path) -> None:
    torch.save({"state_dict": under("module.", {**FIRST, "bn9.weight": torch.ones(3)})}, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match=r"w\.pt \(under 'state_dict', without 'module\.'\) do not fit .*1 unexpected: bn9\.weight"
    ):
        pack(tmp_path / "w.pt", TINY, INPUTS, 10)


def test_pack_prints_what_it_took_and_keeps_it_in_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": FIRST, "model_ema": under("module.", SECOND), "n": 3}, tmp_path / "w.pt")
    assert main(f"pack {tmp_path / 'w.pt'} {LINE} --out {tmp_path / 'out'}".split()) == 0
    said = "took the averaged weights under model_ema; others that fit lie under model (--which takes them)"
    assert capsys.readouterr().out.splitlines()[1:] == [f"{tmp_path / 'w.pt'}: {said}; dropped module. from the names"]
    assert load(tmp_path / "out").card.history[-1]["beside"] == "model"
    torch.save(FIRST, tmp_path / "w.pt")
    assert main(f"pack {tmp_path / 'w.pt'} {LINE} --out {tmp_path / 'out'}".split()) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_names_of_any_length_leave_a_file_that_loads(tmp_path: Path) -> None:
    torch.save({"x" * 2**17: under("a" * 2**17 + ".", FIRST), "y": {"z" * 2**17: torch.ones(1)}}, tmp_path / "w.pt")
    pack(tmp_path / "w.pt", TINY, INPUTS, 10).save(tmp_path / "out")
    load(tmp_path / "out")
