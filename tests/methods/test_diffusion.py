"""Diffusion models: the one trained on the bank, and pretrained pipelines, saved and loaded as a user has them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import INPUTS, TINY, network
from torch import Tensor

from datafree import DDA, DeepInversion, InputSpec, Plan, Recipe, distill
from datafree.core.runtime import Runtime
from datafree.data.digits import digits
from datafree.methods.common.diffusion.diffuser import Diffusion, import_package
from datafree.methods.common.diffusion.embedded import SLICE, Embedded
from datafree.methods.common.diffusion.pretrained import CLIP_MEAN, CLIP_STD, Clip, Pretrained, clip_pixels

diffusers = pytest.importorskip("diffusers", reason="the extra [diffusion] is not installed")
transformers = pytest.importorskip("transformers", reason="the extra [diffusion] is not installed")

SMALL = Diffusion(updates=400, batch=64, width=16, steps=10, lr=3e-3)
COLOUR = InputSpec(shape=(3, 16, 16))


def embedded(settings: Diffusion, seed: int = 0) -> Embedded:
    runtime = Runtime("cpu", seed=seed)
    with runtime.seeded():
        return Embedded(settings, INPUTS, runtime)


@pytest.fixture(scope="module")
def bank() -> Tensor:
    """8x8 digits, uint8 [N, 1, 8, 8]."""
    pytest.importorskip("sklearn", reason="scikit-learn's digits are the bank of these tests")
    return digits()[0].pixels


@pytest.fixture(scope="module")
def trained(bank: Tensor) -> Embedded:
    diffuser = embedded(SMALL)
    while diffuser.training()[0] < diffuser.training()[1]:
        diffuser.train(bank)
    return diffuser


def test_training_comes_in_slices_and_stops_at_its_updates(bank: Tensor) -> None:
    diffuser = embedded(SMALL.replaced(**{"updates": SLICE + 10}))
    assert diffuser.training() == (0, 2)
    diffuser.train(bank)
    assert (diffuser.trained.count, diffuser.training()) == (SLICE, (1, 2))
    diffuser.train(bank)
    assert (diffuser.trained.count, diffuser.training()) == (SLICE + 10, (2, 2))


def test_the_model_learns_the_bank(trained: Embedded, bank: Tensor) -> None:
    """What it makes of pure noise is nearer to the bank than what an untrained one makes."""

    def gap(diffuser: Embedded) -> float:
        made = diffuser.vary(torch.full((64, *INPUTS.shape), 0.5), 1.0)
        return (made.mean(0) - bank.float().mean(0) / 255).abs().mean().item()

    assert gap(trained) < 0.5 * gap(embedded(SMALL))


def test_a_variation_is_kin_and_differs_the_more_the_stronger(trained: Embedded, bank: Tensor) -> None:
    images = bank[:100].float() / 255
    others = (images - images.roll(1, 0)).abs().mean()
    apart = [(trained.vary(images, strength) - images).abs().mean() for strength in (0.2, 0.5, 0.8)]
    assert 0 < apart[0] < apart[1] < apart[2] < others
    made = trained.vary(images, 0.5)
    assert made.shape == images.shape
    assert made.min() >= 0
    assert made.max() <= 1
    assert not torch.equal(made, trained.vary(images, 0.5))


def test_training_resumes_to_the_same_model(bank: Tensor) -> None:
    def weights(diffuser: Embedded) -> Tensor:
        return torch.cat([weight.detach().flatten() for weight in diffuser.average.parameters()])

    settings = SMALL.replaced(**{"updates": 2 * SLICE, "batch": 4})
    unbroken, first, second = (embedded(settings) for _ in range(3))
    for _ in range(2):
        unbroken.train(bank)
    first.train(bank)
    states = {name: part.state_dict() for name, part in (first.state() | {"runtime": first.runtime}).items()}
    for name, part in (second.state() | {"runtime": second.runtime}).items():
        part.load_state_dict(states[name])
    second.train(bank)
    assert torch.equal(weights(unbroken), weights(second))


def test_sides_that_cannot_be_halved_are_served() -> None:
    runtime = Runtime("cpu")
    for side in (7, 14, 28):
        diffuser = Embedded(Diffusion(width=8, updates=2, steps=2), InputSpec(shape=(1, side, side)), runtime)
        diffuser.train(torch.zeros(4, 1, side, side, dtype=torch.uint8))
        assert diffuser.vary(torch.rand(3, 1, side, side), 1.0).shape == (3, 1, side, side)


def test_a_width_that_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"multiple of 8, not 12"):
        embedded(SMALL.replaced(**{"width": 12}))


def encoder() -> Any:
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, patch_size=56, projection_dim=16
    )
    return transformers.CLIPVisionModelWithProjection(config)


def parts() -> dict[str, Any]:
    """What both pipelines share, as small as their classes allow."""
    torch.manual_seed(0)
    ends = {"norm_num_groups": 8, "layers_per_block": 1}
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        **ends,
    )
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **ends,
    )
    return {"vae": vae, "unet": unet, "scheduler": diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)}


@pytest.fixture(scope="module")
def variation_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image-variation pipeline with random weights, written by `save_pretrained`."""
    path = tmp_path_factory.mktemp("pipelines") / "variation"
    made = diffusers.StableDiffusionImageVariationPipeline(
        **parts(),
        image_encoder=encoder(),
        feature_extractor=transformers.CLIPImageProcessor(),
        safety_checker=None,
        requires_safety_checker=False,
    )
    made.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image-to-image pipeline with random weights and a vocabulary of a few letters."""
    path = tmp_path_factory.mktemp("pipelines") / "image"
    words = ["<|startoftext|>", "<|endoftext|>", *"abc", "a</w>", "b</w>"]
    vocabulary, merges = path.with_name("vocab.json"), path.with_name("merges.txt")
    vocabulary.write_text("{" + ", ".join(f'"{word}": {i}' for i, word in enumerate(words)) + "}")
    merges.write_text("#version: 0.2\n")
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
    )
    made = diffusers.StableDiffusionImg2ImgPipeline(
        **parts(),
        text_encoder=transformers.CLIPTextModel(config),
        tokenizer=transformers.CLIPTokenizer(str(vocabulary), str(merges), model_max_length=8),
        feature_extractor=None,
        safety_checker=None,
        requires_safety_checker=False,
    )
    made.save_pretrained(path)
    return path


def pretrained(folder: Path, inputs: InputSpec = COLOUR, seed: int = 0, **settings: Any) -> Pretrained:
    return Pretrained(Diffusion(pipeline=str(folder), steps=3, side=16, **settings), inputs, Runtime("cpu", seed=seed))


def test_image_variation_sees_the_image_through_clip_alone(variation_folder: Path) -> None:
    diffuser = pretrained(variation_folder, batch=4)
    assert diffuser.is_variation
    assert diffuser.provenance == f"pretrained prior: {variation_folder}"
    images = torch.rand(6, *COLOUR.shape)
    made = diffuser.vary(images, 0.5)
    assert made.shape == images.shape
    assert made.isfinite().all()
    assert made.min() >= 0
    assert made.max() <= 1
    assert torch.equal(made, pretrained(variation_folder, batch=4).vary(images, 0.9)), "strength is not its own"
    assert not torch.equal(made, pretrained(variation_folder, batch=4).vary(1 - images, 0.5)), "the image matters"
    assert not torch.equal(made, diffuser.vary(images, 0.5)), "each call draws anew"


def test_image_to_image_takes_a_strength(image_folder: Path) -> None:
    images = torch.rand(2, *COLOUR.shape)
    weak, strong = (pretrained(image_folder).vary(images, strength) for strength in (0.34, 1.0))
    assert not pretrained(image_folder).is_variation
    assert weak.shape == images.shape
    assert not torch.equal(weak, strong)


def test_gray_images_go_through_as_colour_and_come_back_gray(variation_folder: Path) -> None:
    images = torch.rand(2, 1, 12, 20)
    made = pretrained(variation_folder, InputSpec(shape=(1, 12, 20))).vary(images, 0.5)
    assert made.shape == images.shape


def test_clip_gets_its_own_size_and_units() -> None:
    mean, std = torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD)
    seen = clip_pixels(torch.full((2, 1, 8, 8), 0.5))
    assert seen.shape == (2, 3, 224, 224)
    assert torch.allclose(seen[0, :, 0, 0], (0.5 - mean) / std, atol=1e-6)


def test_clip_embeds_from_a_folder(tmp_path: Path) -> None:
    encoder().save_pretrained(tmp_path / "clip")
    clip = Clip(str(tmp_path / "clip"), Runtime("cpu"))
    images = torch.rand(3, *COLOUR.shape)
    assert clip(images).shape == (3, 16)
    assert torch.allclose(clip(images)[:1], clip(images[:1]), atol=1e-5)


def test_a_run_with_a_pretrained_prior_says_so(variation_folder: Path, tmp_path: Path) -> None:
    encoder().save_pretrained(tmp_path / "clip")
    outside = Diffusion(pipeline=str(variation_folder), steps=2)
    method = DDA(
        host=DeepInversion(inversion={"steps": 2, "batch": 4}),
        bank=4,
        batch=4,
        variations=1,
        sources=4,
        diffusion=outside,
        omega=-1,
        clip=str(tmp_path / "clip"),
    )
    recipe = Recipe(method, Plan(rounds=1, steps=1, batch=4, images_per_round=8, pool_size=8), "test")
    distill(network(seed=1), TINY, recipe=recipe, out=tmp_path / "run", quiet=True, device="cpu")
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    assert found["provenance"]["training"] == f"pretrained prior: {variation_folder}; pretrained filter: {tmp_path / 'clip'}"
    assert not found["provenance"]["data_free"]
    assert found["results"]["variations"] == 4
    assert str(variation_folder) in found["identity"]["files"], "other weights in that folder are another run"


@pytest.mark.parametrize("source", ["{tmp}/nothing", "{tmp}/empty"])
def test_what_is_no_pipeline_is_refused_in_words(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pretrained model"):
        pretrained(Path(source.format(tmp=tmp_path)))
    with pytest.raises(ValueError, match="holds no pretrained model"):
        Clip(source.format(tmp=tmp_path), Runtime("cpu"))


def test_a_missing_package_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r"pip install 'datafree\[diffusion\]'"):
        import_package("diffusers")
    with pytest.raises(ValueError, match=r"variations 0"):
        embedded(SMALL)
