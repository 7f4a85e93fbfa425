"""What a network did on real data is on its card, right, small, and without an image."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import INPUTS, network

import datafree
from datafree.cli import main
from datafree.data.labelled import Labelled
from datafree.networks.network import load, read_card


def labelled(n: int = 200) -> Labelled:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, *INPUTS.shape), dtype=torch.uint8, generator=generator)
    return Labelled(pixels, torch.randint(0, 10, (n,), generator=generator), 10, "here/some.npz")


def test_the_card_has_what_evaluate_finds(tmp_path: Path) -> None:
    data, net = labelled(), network(1)
    found = datafree.validate(net, data, device="cpu").card.validation
    assert found is not None
    assert found.accuracy == pytest.approx(datafree.evaluate(net, data, device="cpu").accuracy)
    assert (found.images, found.source) == (200, "some.npz")
    predicted = net.module(INPUTS.to_network(data.pixels)).argmax(1)
    each = [100 * (predicted[data.labels == k] == k).float().mean().item() for k in range(10)]
    assert found.each == pytest.approx(each, abs=0.01)
    assert sum(found.confidence) == pytest.approx(1, abs=1e-3)
    assert sum(found.margin) == pytest.approx(1, abs=1e-3)
    datafree.validate(net, data, device="cpu").save(tmp_path / "net.safetensors")
    assert load(tmp_path / "net.safetensors").card.validation == found
    assert len(read_card(tmp_path / "net.safetensors").model_dump_json()) < 10_000, "a few hundred numbers"


def test_histograms_by_class_and_features() -> None:
    data, net = labelled(), network(1)
    found = datafree.validate(net, data, device="cpu").card.validation
    assert found is not None
    seen: list[torch.Tensor] = []
    last = [layer for layer in net.module.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with last.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0])), torch.no_grad():
        confidence = net.module(INPUTS.to_network(data.pixels)).softmax(1).amax(1)
    assert found.feature_mean == pytest.approx(seen[0].mean(0).tolist(), rel=1e-3, abs=1e-4)
    assert found.feature_variance == pytest.approx(seen[0].var(0, unbiased=False).tolist(), rel=1e-3, abs=1e-4)
    assert len(found.confidence_each) == len(found.margin_each) == 10
    low = [(confidence[data.labels == k] <= 0.2).float().mean().item() for k in range(10)]
    assert [each[0] for each in found.confidence_each] == pytest.approx(low, abs=1e-4)
    assert all(sum(each) == pytest.approx(1, abs=1e-3) for each in found.margin_each)
    lacking = Labelled(data.pixels[data.labels > 0], data.labels[data.labels > 0], 10, "some")
    some = datafree.validate(net, lacking, device="cpu").card.validation
    assert some is not None
    assert some.confidence_each[0] == ()


def test_the_temperature_calibrates() -> None:
    data = labelled(1000)
    net = network(1)
    logits = net.module(INPUTS.to_network(data.pixels))
    drawn = torch.multinomial((3 * logits).softmax(1), 1, generator=torch.Generator().manual_seed(1))[:, 0]  # too unsure by 3
    found = datafree.validate(net, Labelled(data.pixels, drawn, 10, "x"), device="cpu").card.validation
    assert found is not None
    assert found.temperature is not None
    assert 0.2 < found.temperature < 0.5


def test_the_commands_write_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = labelled(60)
    np.savez(tmp_path / "d.npz", images=data.pixels.permute(0, 2, 3, 1).numpy(), labels=data.labels.numpy())
    torch.save(network(1).module.state_dict(), tmp_path / "w.pt")
    net = f"--arch {network(1).card.architecture} --inputs {'x'.join(map(str, INPUTS.shape))} --classes 10"
    pack = f"pack {tmp_path}/w.pt {net} --out {tmp_path}/p.safetensors"
    assert main([*pack.split(), "--validate", f"{tmp_path}/d.npz"]) == 0
    assert "measured on d.npz" in capsys.readouterr().out
    assert main(["inspect", f"{tmp_path}/p.safetensors"]) == 0
    assert "measured on 60 images of d.npz" in capsys.readouterr().out
    assert main([*pack.split(), "--accuracy", "91.7"]) == 0
    assert "accuracy 91.70 %, as stated" in capsys.readouterr().out
    teach = f"teach {tmp_path}/d.npz --arch small-cnn --epochs 1 --device cpu --out {tmp_path}/t.safetensors"
    teach += f" --eval {tmp_path}/d.npz"
    for _ in range(2):  # the second time it is there already
        assert main(teach.split()) == 0
        kept = read_card(tmp_path / "t.safetensors").validation
        assert kept is not None
        assert kept.images == 60


def test_mistakes_are_told(tmp_path: Path) -> None:
    net = network(1)
    for given in ({}, {"data": labelled(), "accuracy": 90.0}, {"accuracy": 101.0}, {"accuracy": float("nan")}):
        with pytest.raises(ValueError, match=r"accuracy|one of the two"):
            datafree.validate(net, **given)
    card = net.card.model_dump(mode="json") | {"validation": {"accuracy": 200}}
    with pytest.raises(ValueError, match="validation"):
        type(net.card).model_validate_json(json.dumps(card))
