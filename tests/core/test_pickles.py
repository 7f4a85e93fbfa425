"""Pickles are gone through without being run: what they name is listed or refused, and stand-ins serve for the rest."""

import collections
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from datafree.core.pickles import StandIn, read_foreign, read_torch


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any):
        self.made = function, arguments

    def __reduce__(self) -> Any:
        return self.made


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("new", [True, False])
def test_a_call_is_named_whatever_the_protocol(protocol: int, new: bool, tmp_path: Path) -> None:
    value = {"x": torch.ones(2), "y": [Calls(os.system, "touch canary")]}
    torch.save(value, tmp_path / "x.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    for read in (read_foreign, read_torch):
        with pytest.raises(pickle.UnpicklingError, match=r"it calls (posix|nt)\.system"):
            read(tmp_path / "x.pt")


def test_a_name_is_refused_that_is_not_called(tmp_path: Path) -> None:
    torch.save([eval], tmp_path / "x.pt")
    with pytest.raises(pickle.UnpicklingError, match=r"it contains builtins\.eval"):
        read_foreign(tmp_path / "x.pt")


def test_the_module_of_a_class_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_with_code.py").write_text("class Config:\n    pass\ndef make(x):\n    return Config()\n")
    monkeypatch.syspath_prepend(tmp_path)
    shop = __import__("shop_with_code")
    torch.save({"x": shop.Config(), "y": Calls(shop.make, 3), "z": shop.make}, tmp_path / "x.pt")
    monkeypatch.delitem(sys.modules, "shop_with_code")
    found = read_foreign(tmp_path / "x.pt")
    assert found.foreign == ("shop_with_code.Config", "shop_with_code.make")
    assert isinstance(found.value["x"], StandIn)
    assert repr(found.value["x"]) == "a shop_with_code.Config"
    assert "shop_with_code" not in sys.modules
    with pytest.raises(pickle.UnpicklingError):
        read_torch(tmp_path / "x.pt")


def test_what_is_filled_like_a_dict_or_a_list_is_one(tmp_path: Path) -> None:
    counts: dict[str, int] = collections.defaultdict(int, {"a": 1})
    torch.save({"counts": counts, "last": collections.deque([1, 2], 3)}, tmp_path / "x.pt")
    assert read_foreign(tmp_path / "x.pt").value == {"counts": {"a": 1}, "last": [1, 2]}


def test_what_is_no_tuple_is_not_taken_for_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor may have any length, with a stride of 0: to list it as arguments would take all memory."""
    monkeypatch.setattr(torch, "load", None)

    for name in ("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "shop Config"):
        data = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n]R."
        (tmp_path / "x.pt").write_bytes(data)
        with pytest.raises(pickle.UnpicklingError, match="it calls what it made"):
            read_foreign(tmp_path / "x.pt")


def test_very_many_classes_of_others_are_refused(tmp_path: Path) -> None:
    classes = [type(f"C{i}", (), {"__module__": __name__}) for i in range(300)]
    for each in classes:
        setattr(sys.modules[__name__], each.__name__, each)
    torch.save([each() for each in classes], tmp_path / "x.pt")
    with pytest.raises(pickle.UnpicklingError, match="it contains 300 classes of others"):
        read_foreign(tmp_path / "x.pt")


def test_a_method_of_a_class_is_not_called(tmp_path: Path) -> None:
    torch.save([Path.touch, Calls(Path.touch, tmp_path / "canary")], tmp_path / "x.pt")
    with pytest.raises(pickle.UnpicklingError, match="it calls what it made"):
        read_foreign(tmp_path / "x.pt")
    torch.save([Path.touch], tmp_path / "x.pt")
    assert isinstance(read_foreign(tmp_path / "x.pt").value[0], StandIn)
    assert not (tmp_path / "canary").exists()
