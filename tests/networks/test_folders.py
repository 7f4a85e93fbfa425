"""Networks in folders: of transformers and timm, made here, become one file of the same answers; hostile ones a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from datafree import InputSpec, load, pack
from datafree.cli import main

transformers = pytest.importorskip("transformers", reason="it builds the networks of these folders")
PREPROCESSOR = {
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4], "size": {"height": 32, "width": 32},
}  # fmt: skip


def _model(family: str) -> Any:
    torch.manual_seed(0)
    if family == "resnet":
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5)
        return transformers.ResNetForImageClassification(config).eval()
    if family == "vit":
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        config = transformers.ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=5)
        return transformers.ViTForImageClassification(config).eval()
    sizes = {"hidden_sizes": [8] * 4, "depths": [1] * 4, "num_attention_heads": [1] * 4, "decoder_hidden_size": 8}
    return transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(**sizes, num_labels=4)).eval()


def _folder(place: Path, family: str = "resnet", preprocessor: dict[str, Any] | None = None) -> Path:
    _model(family).save_pretrained(place / family)
    (place / family / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | (preprocessor or {})))
    return place / family


def _images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", ["resnet", "vit", "segformer"])
def test_a_folder_of_transformers_becomes_one_file_with_its_answers(family: str, tmp_path: Path) -> None:
    folder, out = _folder(tmp_path, family), tmp_path / "teacher.safetensors"
    assert main(["pack", str(folder), "--out", str(out)]) == 0
    (folder / "model.safetensors").unlink()  # the file needs nothing of the folder
    packed = load(out)
    assert packed.card.inputs == InputSpec(shape=(3, 32, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    with torch.no_grad():
        expected, found = _model(family)(_images()).logits, packed.module(_images())
    if family == "segformer":
        assert expected.shape[2:] == (8, 8)
        assert packed.card.task == "segmentation"
        expected = nn.functional.interpolate(expected, (32, 32), mode="bilinear", align_corners=False)
    assert torch.allclose(found, expected, atol=1e-6)
    assert found.std() > 0


@pytest.mark.parametrize(
    ("changes", "mean", "std"),
    [
        ({"do_normalize": False}, 0.0, 1.0),
        ({"do_rescale": False, "image_mean": [127.5], "image_std": [127.5]}, 0.5, 0.5),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, 0.5, 0.5),
    ],
)
def test_mean_and_std_are_those_of_the_preprocessor(changes: dict[str, Any], mean: float, std: float, tmp_path: Path) -> None:
    inputs = load(_folder(tmp_path, preprocessor=changes)).card.inputs
    assert inputs.mean == pytest.approx((mean,))
    assert inputs.std == pytest.approx((std,))


def test_inputs_given_replace_a_preprocessor_that_is_missing(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"has no preprocessor_config.json; pack the folder with --inputs"):
        load(folder)
    assert pack(folder, inputs=InputSpec(shape=(3, 48, 48))).card.inputs.shape == (3, 48, 48)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architectures": ["DetrForObjectDetection"]}, "neither classifies images nor segments"),
        ({"model_type": "bert"}, "no network for image-classification of the family 'bert'"),
        ({"hidden_sizes": [10**9, 16]}, "hidden_sizes of transformers:image-classification is beyond 65,536"),
        ({"hidden_sizes": [60_000, 60_000]}, "more than .* weights"),
        ({"depths": [60_000, 60_000]}, "more than 20,000 layers"),
        ({"hidden_sizes": [16, 16]}, "do not fit its config"),
        ({"quantization_config": {"bits": 4}}, "'quantization_config' makes .* read another file"),
        ({"id2label": {"0": "all"}}, "has 1 classes"),
        ({"hidden_act": "no such"}, "cannot be built|does not take"),
    ],
)
def test_a_config_that_lies_is_refused_in_a_sentence(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=sentence):
        load(folder)


def test_code_in_a_folder_is_never_run(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "evil.py").write_text("raise SystemExit('it ran')")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForImageClassification": "evil.Evil", "AutoConfig": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    assert load(folder).card.architecture == "transformers:image-classification"


def test_a_truncated_config_and_missing_weights_are_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    state = load_file(folder / "model.safetensors")
    state.pop(next(iter(state)))
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ValueError, match="1 are missing"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model.safetensors; save it again"):
        load(folder)
    (folder / "config.json").write_text('{"model_type"')
    with pytest.raises(ValueError, match="is not JSON"):
        load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_timm_has_the_answers_of_its_network(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="it builds the network")
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", num_classes=7).eval()
    told = {"input_size": [3, 64, 64], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "num_classes": 7}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "mobilenetv3_small_050", "pretrained_cfg": told}))
    (save_file if name.endswith("safetensors") else torch.save)(model.state_dict(), tmp_path / name)
    packed = load(tmp_path)
    assert packed.card.inputs == InputSpec(shape=(3, 64, 64), mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(packed.module(x), model(x))


def test_a_name_of_the_hub_is_read_from_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="it holds the cache")
    folder = _folder(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr(hub, "snapshot_download", lambda name, allow_patterns: asked.append(name) or str(folder))
    assert load("hf-hub:some/one").card.classes == 5
    assert asked == ["some/one"]

    def fails(name: str, allow_patterns: list[str]) -> str:
        raise OSError("offline")

    monkeypatch.setattr(hub, "snapshot_download", fails)
    with pytest.raises(ValueError, match=r"hf-hub:some/one is not in the local cache and cannot be downloaded \(offline\)"):
        load("hf-hub:some/one")
