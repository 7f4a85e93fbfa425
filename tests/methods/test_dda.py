"""DDA: what is varied, what is kept, and what the student learns from it."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import INPUTS, TINY, network
from PIL import Image
from torch import Tensor, nn

from datafree import CMI, CSD, DDA, DFAD, NAYER, Augmentation, DeepInversion, Fast, Plan, Recipe, Stored, distill, synthesize
from datafree.core.runtime import Runtime
from datafree.engine import folder
from datafree.engine.look import kd
from datafree.engine.method import Method, Problem
from datafree.methods.common.diffusion.diffuser import Diffuser, Diffusion
from datafree.methods.common.feature_match import Embedding
from datafree.methods.dda import DDASynthesizer
from datafree.networks.teacher import Teacher
from datafree.recipes import recipe_from

pytest.importorskip("diffusers", reason="the extra [diffusion] is not installed")

FAST = DeepInversion(inversion={"steps": 2, "batch": 5}, roll=1)
SMALL = DDA(
    host=FAST,
    bank=10,
    batch=5,
    variations=2,
    sources=10,
    diffusion=Diffusion(updates=2, batch=4, width=8, steps=2),
    look={"augment": Augmentation()},
)
PLAN = Plan(
    rounds=4,
    warmup=3,
    steps=2,
    batch=8,
    images_per_round=10,
    pool_size=40,
    log_every=1,
    save_every=2,
    eval_every=0,
    grid_every=0,
)


class Painter(Diffuser):
    """Stands for a diffusion model: its variations are what it is told to paint."""

    def __init__(self, paint: Any):
        self.paint = paint

    def vary(self, images: Tensor, strength: float) -> Tensor:
        return self.paint(images)  # type: ignore[no-any-return]


def augmenter(settings: DDA, paint: Any = None, student: nn.Module | None = None) -> DDASynthesizer:
    runtime = Runtime("cpu")
    with runtime.seeded():
        problem = Problem(Teacher(network(seed=1).module, INPUTS, runtime), student or network(seed=2).module, INPUTS, 10)
        made = settings.start(problem, runtime)
    assert isinstance(made, DDASynthesizer)
    if paint:
        made.diffuser = Painter(paint)
    while made.preparation()[0] < made.preparation()[1]:
        made.prepare()
    return made


def pixels(batch: Any) -> Tensor:
    return INPUTS.to_pixels(batch.x)


def test_the_bank_comes_first_then_each_sources_variations_then_fresh_images() -> None:
    made = augmenter(SMALL, lambda images: 1 - images)
    bank = made.bank.pixels.clone()
    assert torch.equal(pixels(made.synthesize(10)), bank)
    varied = made.synthesize(20)
    assert torch.equal(pixels(varied), (255 - bank).repeat_interleave(2, 0))
    assert torch.equal(varied.y.argmax(1), made.bank.columns["y"].argmax(1).repeat_interleave(2)), "targets are inherited"
    fresh = pixels(made.synthesize(10))
    assert not torch.equal(fresh, bank)
    assert made.varied.count == 10, "no more sources are varied than asked for"


def test_fresh_images_are_varied_while_sources_are_wanted() -> None:
    made = augmenter(SMALL.replaced(**{"bank": 5, "sources": 8, "omega": -1}), lambda images: 1 - images)
    made.synthesize(5 + 10)
    fresh = pixels(made.synthesize(5))
    assert torch.equal(pixels(made.synthesize(6)), (255 - fresh[:3]).repeat_interleave(2, 0))
    assert made.varied.count == 8


def test_no_variations_is_the_host_alone_and_needs_no_diffusion_model() -> None:
    made = augmenter(SMALL.replaced(**{"variations": 0}))
    assert made.diffuser is None
    assert len(made.synthesize(25).x) == 25
    assert made.runtime.counters.variations == 0
    assert made.provenance() == "none"


def test_what_is_kept_is_near_its_source_in_the_teachers_penultimate_feature() -> None:
    made = augmenter(SMALL)
    sources, variations = torch.rand(10, *INPUTS.shape), torch.rand(10, 2, *INPUTS.shape)
    teacher, seen = network(seed=1).module, {}
    teacher.fc2.register_forward_pre_hook(lambda _, inputs: seen.update(z=inputs[0]))

    def embedded(image: Tensor) -> Tensor:
        with torch.no_grad():
            teacher(INPUTS.to_network(image[None]))
        return seen["z"][0]

    pairs = zip(sources, variations, strict=True)
    naive = [[F.cosine_similarity(embedded(source), embedded(each), dim=0).item() for each in row] for source, row in pairs]
    made.filter.omega = float(np.median(naive))
    similarity, kept = made.filter(sources, variations, made.bank.columns["y"])
    assert np.allclose(similarity, naive, atol=1e-5)
    assert kept.tolist() == [[each >= made.filter.omega for each in row] for row in naive]
    assert kept.sum() == 10


def test_same_class_drops_what_the_teacher_puts_elsewhere() -> None:
    made = augmenter(SMALL.replaced(**{"omega": -1, "same_class": True}), lambda images: 1 - images)
    sources = torch.rand(30, *INPUTS.shape)
    variations = torch.rand(30, 2, *INPUTS.shape)
    with torch.no_grad():
        chosen = network(seed=1).module(INPUTS.to_network(variations.flatten(0, 1))).argmax(1).view(30, 2)
    targets = F.one_hot(chosen[:, 0], 10).float()
    kept = made.filter(sources, variations, targets)[1]
    assert kept[:, 0].all()
    assert torch.equal(kept[:, 1], chosen[:, 1] == chosen[:, 0])


def test_what_is_kept_is_logged_for_each_class() -> None:
    made = augmenter(SMALL.replaced(**{"omega": -1, "same_class": True}), lambda images: images)
    made.runtime.drain()
    made.synthesize(10)
    targets = F.one_hot(torch.tensor([0, 0, 1, 1]), 10).float()
    answer = network(seed=1).module.eval()(INPUTS.to_network(same := torch.full((4, *INPUTS.shape), 0.5)))[0].argmax().item()
    made.filter(same, same[:, None], targets)
    noted = made.runtime.drain()
    assert noted["kept/0"] == float(answer == 0)
    assert noted["kept/1"] == float(answer == 1)
    assert made.runtime.counters.variations == 4


def test_an_empty_result_says_what_to_lower() -> None:
    made = augmenter(SMALL.replaced(**{"omega": 1.0}), lambda images: torch.rand(images.shape))
    made.synthesize(10)
    with pytest.raises(ValueError, match=r"kept none of 20 variations.*lower --method.omega or --method.diffusion.strength"):
        made.synthesize(1)


def test_the_loss_is_that_of_its_code() -> None:
    """T^2 KL at 20, the targets' cross-entropy, and 30 times the distance of the last maps through the align head."""
    student = network(seed=2).module.train()
    made = augmenter(SMALL, lambda images: images, student)
    batch = made.synthesize(8)
    maps: dict[str, Tensor] = {}
    teacher = network(seed=1).module
    for name, module in (("own", student), ("theirs", teacher)):
        module.bn2.register_forward_hook(lambda *call, name=name: maps.update({name: call[2]}))
    with torch.no_grad():
        answer = teacher(batch.x)
    own = student(batch.x)
    made.match.align.eval()
    distance = (made.match.align(maps["own"]) - maps["theirs"]).square().mean()
    labels = F.cross_entropy(own, batch.y.argmax(1))
    assert torch.allclose(made.loss(student, batch), kd(own, answer, 20) + labels + 30 * distance, rtol=1e-5)
    assert made.student_parameters() == tuple(made.match.align.parameters())
    halves = [layer for layer in made.match.align if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in halves] == [(16, 32, 1), (32, 32, 3), (32, 16, 1)]


def test_the_align_head_learns_with_the_student(tmp_path: Path) -> None:
    recipe = Recipe(SMALL.replaced(**{"omega": -1}), PLAN, "test")
    distill(network(seed=1), TINY, recipe=recipe, out=tmp_path / "run", quiet=True, device="cpu")
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["parts"]
    fresh = augmenter(SMALL).match.align.state_dict()
    assert not torch.equal(saved["method.align"]["0.weight"], fresh["0.weight"])
    assert len(saved["optimizer"]["param_groups"][0]["params"]) == len(list(network(1).module.parameters())) + 10


@pytest.mark.parametrize("kind", [Fast, NAYER])
def test_hosts_with_a_generator_make_the_bank_and_know_the_share_of_the_run(kind: type[Fast] | type[NAYER]) -> None:
    late = {"weight": 1.0, "rise_from": 0.5, "rise_until": 0.5}
    host = kind(inversion={"steps": 2, "batch": 5}, latent={"size": 8, "width": 8}, adversary=late)
    made = augmenter(SMALL.replaced(host=host))
    assert len(made.bank) == 10
    assert made.host.adversary == 0
    made.at(0.5)
    assert made.host.adversary == 1
    assert {name for name in made.state() if name.startswith("host.")} == {f"host.{name}" for name in made.host.state()}


def test_hosts_heads_go_on_learning() -> None:
    """CSD judges the student by a head that takes a step on each of its batches."""
    made = augmenter(
        SMALL.replaced(
            host=CSD(warmup_images=10, inversion={"steps": 2, "batch": 5}, warmup_steps=2, latent={"size": 8, "width": 8})
        )
    )
    batch = made.synthesize(8)
    before = made.host.head[0].weight.clone()
    made.loss(made.problem.student, batch)
    assert not torch.equal(before, made.host.head[0].weight)


@pytest.mark.parametrize(
    "host",
    [
        FAST,
        CMI(inversion={"batch": 7}),
        CSD(latent={"width": 16}),
        DFAD(latent={"size": 9}),
        Fast(adversary={"weight": 1.0}),
        NAYER(embeddings="one-hot"),
        Stored(path=Path("set.safetensors")),
    ],
)
def test_a_run_with_any_host_can_be_written_down_and_read_back(host: Method) -> None:
    recipe = Recipe(DDA(host=host), PLAN, "test")
    assert recipe_from(json.loads(json.dumps(recipe.settings()))).method == recipe.method
    assert recipe.method.adversarial == host.adversarial


def test_a_host_that_there_is_not_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="Input tag 'magic' found using 'name' does not match any of the expected tags: 'cmi'"):
        DDA(host={"name": "magic"})


def test_hosts_without_targets_get_the_teachers_choice(images: Path) -> None:
    made = augmenter(SMALL.replaced(**{"host": Stored(path=images)}), lambda images: images)
    batch = made.synthesize(10)
    with torch.no_grad():
        chosen = network(seed=1).module(batch.x).argmax(1)
    assert torch.equal(batch.y.argmax(1), chosen)
    assert made.provenance() == "file images.npz"


def test_provenance_names_what_was_pretrained() -> None:
    made = augmenter(SMALL)
    assert made.provenance() == "none"
    made.diffuser.provenance = "pretrained prior: somewhere"
    assert made.provenance() == "pretrained prior: somewhere"


def test_synthesize_writes_a_set_like_any_other_with_a_picture(tmp_path: Path) -> None:
    settings = SMALL.replaced(**{"omega": -1})
    made = synthesize(network(seed=1), settings, 25, out=tmp_path / "set.safetensors", batch=8, quiet=True, device="cpu")
    assert len(made) == 25
    assert len(made.targets[0]) == len(made.logits[0]) == 25
    assert made.card.provenance == "none"
    with Image.open(tmp_path / "set-variations.png") as picture:
        assert picture.size[0] > 3 * 64
    recipe = Recipe(Stored(path=tmp_path / "set.safetensors"), Plan(rounds=1, steps=1, batch=8), "test")
    distill(network(seed=1), TINY, recipe=recipe, quiet=True, device="cpu")


def test_a_kill_in_any_phase_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FeatureMemory, training of the diffusion model, variation: killed in each, a set is the same to the bit."""
    monkeypatch.setattr(folder, "SAVE_EVERY", 0.0)
    settings = SMALL.replaced(**{"omega": -1, "diffusion": SMALL.diffusion.replaced(**{"updates": 120})})

    def made(name: str) -> bytes:
        path = tmp_path / name / "set.safetensors"
        synthesize(network(seed=1), settings, 30, out=path, batch=6, quiet=True, device="cpu")
        return path.read_bytes()

    unbroken = made("unbroken")
    # Each is killed in its second call of the session: in the bank, twice in the training, and in the variations.
    for name in ("_host_images", "prepare", "prepare", "_variations"):
        real, calls = getattr(DDASynthesizer, name), []

        def die(*args: Any, real: Any = real, calls: list[int] = calls) -> Any:
            calls.append(1)
            if len(calls) == 2:
                raise MemoryError("killed")
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(DDASynthesizer, name, die)
            with pytest.raises(MemoryError):
                made("broken")
    assert made("broken") == unbroken


def test_what_the_phases_cost_is_in_the_record(tmp_path: Path) -> None:
    recipe = Recipe(SMALL.replaced(**{"omega": -1}), PLAN, "test")
    distill(network(seed=1), TINY, recipe=recipe, out=tmp_path / "run", quiet=True, device="cpu")
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    results = found["results"]
    assert results["variations"] == results["kept"] == 20
    assert all(results[name] > 0 for name in ("bank_s", "diffusion_training_s", "variation_s"))
    assert found["provenance"]["data_free"]
    assert (tmp_path / "run" / "images" / "variations.png").exists()
    with (tmp_path / "run" / "preparation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["inversion_loss"]) for row in rows] == [True, True, False]
    assert float(rows[-1]["diffusion_loss"]) > 0


def test_the_embedding_of_a_network_that_ends_in_a_convolution_is_pooled() -> None:
    runtime = Runtime("cpu")
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    problem = Problem(Teacher(module, INPUTS, runtime), module, INPUTS, 10)
    features, answer = Embedding(problem, runtime)(torch.rand(3, *INPUTS.shape))
    assert len(features) == len(answer) == 3
    assert features.dim() == 2
