"""A student as a folder of the Hub: it loads again, and its model card says what the record says, and no more."""

import json
from pathlib import Path

import pytest
import torch
from helpers import INPUTS, TINY, network

import datafree
from datafree import DFAD, Plan, Recipe, distill
from datafree.cli import main

PLAN = Plan(rounds=1, steps=1, batch=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("push") / "run"
    recipe = Recipe(DFAD(latent={"size": 4, "width": 8}, batch=4), PLAN, "a <b> | source")
    distill(network(1), TINY, recipe=recipe, out=out, quiet=True, device="cpu")
    return out


def test_the_folder_loads_and_its_card_is_of_the_record(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert main(["push", str(run), "--to", str(folder)]) == 0
    assert main(["push", str(run), "--to", str(folder)]) == 0, "again, over itself"
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    record = json.loads((run / "run.json").read_text())
    text = (folder / "README.md").read_text(encoding="utf-8")
    for word in (record["identity"]["teacher"], record["student"]["sha256"], "`dfad`", "No real image touched its training"):
        assert word in text
    assert "was not measured" in text
    assert "<b>" not in text
    assert str(run.parent) not in text
    assert json.loads((folder / "config.json").read_text())["num_classes"] == 10
    x = torch.randn(3, *INPUTS.shape)
    for again in (datafree.load(folder), datafree.pack(folder)):
        assert torch.equal(again.module(x), datafree.load(run / "student.safetensors").module(x))


def test_what_was_measured_is_said(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    recipe = Recipe(DFAD(latent={"size": 4, "width": 8}, batch=4), PLAN, "ours")
    distill(network(1), TINY, recipe=recipe, out=out, quiet=True, device="cpu", eval_data=str(images))
    datafree.push(out, tmp_path / "mine")
    results = json.loads((out / "run.json").read_text())["results"]
    text = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    assert f"{results['student_accuracy']:.2f} % on the 40 images of {images.name}" in text
    assert str(images.parent) not in text


def test_an_upload_is_of_that_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    seen: list[object] = []

    def upload(repo_id: str, folder_path: Path, commit_message: str) -> None:
        seen.append((repo_id, sorted(path.name for path in folder_path.iterdir())))

    monkeypatch.setattr(hub, "create_repo", lambda name, private, exist_ok: seen.append((name, private)))
    monkeypatch.setattr(hub, "upload_folder", upload)
    assert datafree.push(run, "hf://me/small", private=True) == "https://huggingface.co/me/small"
    assert seen == [("me/small", True), ("me/small", ["README.md", "config.json", "model.safetensors"])]

    def refused(name: str, private: bool, exist_ok: bool) -> None:
        raise OSError("no way out")

    monkeypatch.setattr(hub, "create_repo", refused)
    with pytest.raises(ValueError, match=r"could not be uploaded \(no way out\)"):
        datafree.push(run, "hf://me/small")


def test_mistakes_are_told(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(ValueError, match="holds other files"):
        datafree.push(run, tmp_path)
    with pytest.raises(ValueError, match="is no folder"):
        datafree.push(run, tmp_path / "mine.txt")
    with pytest.raises(ValueError, match="not the record of a run"):
        datafree.push(tmp_path, tmp_path / "new")
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"datafree\[hub\]"):
        datafree.push(run, "hf://me/small")
