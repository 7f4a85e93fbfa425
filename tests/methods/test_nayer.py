"""NAYER: its noisy layers, labels and embeddings against naive loops, with a teacher of real digits."""

import copy
import itertools
import string
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import network
from torch import Tensor, nn

from datafree import NAYER, Augmentation, InputSpec, Network, synthesize
from datafree.core.runtime import Runtime
from datafree.engine.method import NoStudent, Problem
from datafree.methods.common.generators import Latent, plain_start
from datafree.methods.common.losses import statistics_distance
from datafree.methods.nayer import LabelGenerator, NAYERSynthesizer, class_embeddings
from datafree.networks.inside.taps import norm_statistics
from datafree.networks.teacher import Teacher

SMALL = NAYER(
    inversion={"batch": 50, "steps": 40, "lr": 1e-2, "cross_entropy": 1, "statistics": 1},
    latent={"size": 32, "width": 16},
    views=Augmentation(),
    look={"augment": Augmentation()},
)


def problem_of(teacher: Network, runtime: Runtime, student: nn.Module | None = None) -> Problem:
    card = teacher.card
    return Problem(Teacher(teacher.module, card.inputs, runtime), student or NoStudent(), card.inputs, card.classes)


def at_work(settings: NAYER, teacher: Network, student: nn.Module | None = None, seed: int = 0) -> NAYERSynthesizer:
    runtime = Runtime("cpu", seed=seed)
    with runtime.seeded():
        return settings.start(problem_of(teacher, runtime, student), runtime)


def layers_of(made: NAYERSynthesizer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Tensor], Tensor, Tensor]]:
    """The generator's weights, and those and the biases of the noisy layers, as each batch from here on begins."""
    seen: list[tuple[dict[str, Tensor], Tensor, Tensor]] = []
    real = made.inverter

    def noting(leaves: list[Tensor], *rest: Any, **how: Any) -> Tensor:
        seen.append((copy.deepcopy(made.generator.state_dict()), *(leaf.detach().clone() for leaf in leaves[-2:])))
        return real(leaves, *rest, **how)

    monkeypatch.setattr(made, "inverter", noting)
    return seen


@pytest.mark.parametrize("n", [20, 25, 7])
def test_each_group_of_rows_has_a_noisy_layer_of_its_own(n: int) -> None:
    torch.manual_seed(0)
    embeddings, shape = torch.randn(10, 6), (1, 8, 8)
    made = LabelGenerator(embeddings, Latent(size=5, width=4).build(shape, Runtime("cpu"), pixels=True))
    labels, groups = torch.randint(10, (n,)), -(-n // 10)
    noisy, bias = torch.randn(groups, 6, 5), torch.randn(groups, 1, 5)
    rows = (embeddings - embeddings.mean(0)) / (embeddings.var(0, unbiased=False) + 1e-5).sqrt()
    through = [rows[label] @ noisy[row // 10] + bias[row // 10, 0] for row, label in enumerate(labels)]
    assert torch.allclose(made(labels, noisy, bias), made.behind(torch.stack(through)), atol=1e-5)


def test_the_noisy_layers_are_fresh_for_every_batch_and_trained_with_the_rest(
    taught: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = at_work(SMALL.replaced(inversion={"steps": 3}), taught)
    leaves: list[Tensor] = []
    real = made.inverter
    monkeypatch.setattr(made, "inverter", lambda given, *rest, **how: (leaves.extend(given), real(given, *rest, **how))[1])
    first = made.synthesize(50)
    noisy, bias = leaves[-2:]
    assert noisy.shape == (5, made.generator.embeddings.shape[1], 32)
    assert bias.shape == (5, 1, 32)
    assert noisy.std().item() == pytest.approx(1, rel=0.05)
    assert 0 < bias.abs().max() < 0.05, "they begin at 0, and three steps of 0.01 train them"
    assert not torch.equal(made.synthesize(50).x, first.x)
    assert not torch.allclose(leaves[-2], noisy, atol=0.1)


def test_the_generator_lives_for_so_many_batches(taught: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    made = at_work(SMALL.replaced(generator_life=3, inversion={"steps": 2}), taught)
    seen = layers_of(made, monkeypatch)
    for _ in range(2):
        made.synthesize(200)  # four batches, across the calls
    weights = [state["behind.layers.1.weight"] for state, *_ in seen]
    moved = [(one - other).abs().max().item() for one, other in itertools.pairwise(weights)]
    assert [step > 0.021 for step in moved] == [False, False, True, False, False, True, False]
    norms = [state["behind.layers.0.weight"] for state, *_ in seen]
    assert [bool((norm == 1).all()) for norm in norms] == [True, False, False, True, False, False, True, False]


def test_fresh_weights_are_distributed_as_torchs_own() -> None:
    torch.manual_seed(0)
    fresh, own = (Latent(size=300, width=32).build((1, 8, 8), Runtime("cpu"), pixels=True) for _ in range(2))
    nn.init.constant_(fresh.layers[0].weight, 3.0)
    plain_start(fresh, torch.Generator().manual_seed(1))
    for name, values in own.named_parameters():
        drawn = fresh.get_parameter(name)
        if values.numel() > 1000:
            assert drawn.std().item() == pytest.approx(values.std().item(), rel=0.05), name
            assert drawn.abs().max().item() == pytest.approx(values.abs().max().item(), rel=0.02), name
            assert not torch.equal(drawn, values)
    assert torch.equal(fresh.layers[0].weight, torch.ones(32))


def test_labels_are_whole_lists_of_the_classes_and_a_random_rest(taught: Network) -> None:
    made = at_work(SMALL.replaced(inversion={"steps": 1, "batch": 24}), taught)
    y = made.synthesize(60).y
    assert y is not None
    labels = y.argmax(1).tolist()
    assert labels[:20] == labels[24:44] == [*range(10), *range(10)]
    assert labels[48:58] == list(range(10))
    rests = {tuple(made._labels(24)[20:].tolist()) for _ in range(20)}
    assert len(rests) > 15
    unbalanced = at_work(SMALL.replaced(inversion={"balanced": False}), taught)
    assert unbalanced._labels(50).bincount(minlength=10).unique().numel() > 1


def test_images_are_of_their_class_in_range_and_near_the_statistics(taught: Network) -> None:
    def distance(x: Tensor) -> float:
        with torch.no_grad(), norm_statistics(taught.module) as seen:
            taught.module(x)
        return statistics_distance(seen.values()).item()

    for embeddings in ("classifier", "one-hot"):
        batch = at_work(SMALL.replaced(embeddings=embeddings), taught).synthesize(50)
        short = at_work(SMALL.replaced(embeddings=embeddings, inversion={"steps": 1}), taught).synthesize(50)
        assert distance(batch.x) < 0.5 * distance(short.x)
        assert batch.y is not None
        with torch.no_grad():
            assert (taught.module(batch.x).argmax(1) == batch.y.argmax(1)).float().mean() > 0.8
        unit = taught.card.inputs.to_float_pixels(batch.x)
        assert unit.min() >= 0
        assert unit.max() <= 1


class OneByOne(nn.Module):
    """A network whose classes are the channels of a last convolution, pooled."""

    def __init__(self, kernel: int = 1):
        super().__init__()
        self.stem, self.norm, self.last = nn.Conv2d(1, 7, 3), nn.BatchNorm2d(7), nn.Conv2d(7, 10, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.stem(x)).relu()).mean((2, 3))


def test_classifier_embeddings_are_the_unit_rows_of_the_last_layer(taught: Network) -> None:
    runtime = Runtime("cpu")
    rows = class_embeddings(NAYER(), problem_of(taught, runtime), runtime)
    weight = taught.module.fc2.weight
    for row, own in zip(rows, weight, strict=True):
        assert torch.allclose(row, own / own.norm(), atol=1e-6)
    pooled = Network(OneByOne().eval(), taught.card)
    rows = class_embeddings(NAYER(), problem_of(pooled, runtime), runtime)
    assert torch.allclose(rows, F.normalize(pooled.module.last.weight.flatten(1), dim=1))
    with pytest.raises(ValueError, match=r"'last' gives no row for each; pass --method.embeddings one-hot"):
        class_embeddings(NAYER(), problem_of(Network(OneByOne(3).eval(), taught.card), runtime), runtime)


def test_one_hot_embeddings_are_the_identity(taught: Network) -> None:
    runtime = Runtime("cpu")
    rows = class_embeddings(NAYER(embeddings="one-hot"), problem_of(taught, runtime), runtime)
    assert torch.equal(rows, torch.eye(10))


def test_the_adversary_makes_images_depend_on_the_student(taught: Network) -> None:
    students = (network(seed, "small-cnn-half", taught.card.inputs).module for seed in (5, 6))
    settings = SMALL.replaced(adversary={"weight": 5.0, "rise_from": 0.5, "rise_until": 0.5})
    one, other = (at_work(settings, taught, student) for student in students)
    assert settings.adversarial
    assert torch.equal(one.synthesize(50).x, other.synthesize(50).x)
    for made in (one, other):
        made.at(0.5)
    assert not torch.equal(one.synthesize(50).x, other.synthesize(50).x)
    with pytest.raises(ValueError, match="depend on a student"):
        synthesize(taught, settings, 10, device="cpu")


def test_a_teacher_without_batch_norm_is_refused_with_statistics_and_served_without() -> None:
    lenet = network(1, "lenet5", InputSpec(shape=(1, 32, 32)))
    with pytest.raises(ValueError, match="nayer matches batch-norm statistics, and this teacher has none; use dfad"):
        synthesize(lenet, SMALL, 10, device="cpu")
    served = SMALL.replaced(inversion={"statistics": 0, "steps": 2})
    assert len(synthesize(lenet, served, 10, device="cpu", quiet=True)) == 10


NAMES = ("a", "b", "ab", "ba", "c", "ca", "cab", "bac", "aa", "bb")


@pytest.mark.parametrize("given", [{"embeddings": "clip"}, {"embeddings": "clip", "clip": "folder"}, {"class_names": NAMES}])
def test_clip_embeddings_an_encoder_and_names_go_together(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="clip embeddings need clip and class_names, and no others do"):
        NAYER(**given)


@pytest.fixture
def text_encoder(tmp_path: Path) -> Path:
    """CLIP's text encoder with random weights and a vocabulary of letters."""
    transformers = pytest.importorskip("transformers", reason="the extra [diffusion] is not installed")
    words = [
        "<|startoftext|>",
        "<|endoftext|>",
        *string.ascii_lowercase,
        *(f"{letter}</w>" for letter in string.ascii_lowercase),
    ]
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=12,
        bos_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.CLIPTextModelWithProjection(config).save_pretrained(tmp_path / "clip")
    vocabulary, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    vocabulary.write_text("{" + ", ".join(f'"{word}": {i}' for i, word in enumerate(words)) + "}")
    merges.write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(vocabulary), str(merges)).save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_clip_embeddings_are_of_the_names_and_a_prior(taught: Network, text_encoder: Path) -> None:
    settings = SMALL.replaced(embeddings="clip", clip=str(text_encoder), class_names=NAMES, inversion={"steps": 2})
    made = at_work(settings, taught)
    rows = made.generator.embeddings
    assert rows.shape == (10, 12)
    assert not rows.requires_grad
    assert len({tuple(row.tolist()) for row in rows}) == 10
    assert (
        synthesize(taught, settings, 20, device="cpu", quiet=True).card.provenance == f"pretrained text prior: {text_encoder}"
    )
    assert settings.files() == (text_encoder,)
    with pytest.raises(ValueError, match="nayer got 2 class names for 10 classes"):
        at_work(settings.replaced(class_names=("a", "b")), taught)


def test_a_text_encoder_that_is_none_is_refused(taught: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="the extra [diffusion] is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="holds no pretrained model"):
        at_work(SMALL.replaced(embeddings="clip", clip=str(tmp_path), class_names=NAMES), taught)
