"""An estimate is right about students whose quality is plain, names what is broken, and says when nothing is known."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import network
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import datafree
from datafree import Network
from datafree.api import estimate as estimating
from datafree.api import run as running
from datafree.api.estimate import KEPT
from datafree.cli import main
from datafree.core.runtime import Runtime
from datafree.estimation import probes as made
from datafree.estimation.conclusion import Estimate
from datafree.estimation.exact import bounds
from datafree.estimation.fitted import fitted
from datafree.networks.saved.weights import fingerprint


@pytest.fixture(scope="module")
def known(taught: Network) -> Network:
    """The teacher of digits; its card says that real images are about as hard for it as these few probes."""
    return datafree.validate(taught, accuracy=90.0)


@pytest.fixture(autouse=True)
def few_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than a person gets, so that a test takes seconds."""
    monkeypatch.setattr(estimating, "FEWEST", 30)
    monkeypatch.setattr(estimating, "MOST", 30)


class Changed(nn.Module):
    """A network whose logits [B, classes] are changed."""

    def __init__(self, module: nn.Module, change: Callable[[Tensor], Tensor]):
        super().__init__()
        self.module, self.change = module, change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.module(x))


def without(classes: int) -> Callable[[Tensor], Tensor]:
    """A change by which the first classes are never named."""
    return lambda z: z - 1e4 * (torch.arange(z.shape[1]) < classes)


def noisy(taught: Network, amount: float) -> nn.Module:
    """The teacher with noise on its weights, as a share of their deviation."""
    module = copy.deepcopy(taught.module)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.dim() > 1:
                weight += amount * weight.std() * torch.randn(weight.shape, generator=random)
    return module


def estimated(student: nn.Module | Network, teacher: Network, **options: float) -> Estimate:
    return datafree.estimate(student, teacher, device="cpu", quiet=True, **options)


@given(st.integers(2, 60), st.integers(2, 6), st.integers(0, 2**31))
def test_the_exact_part_holds_for_any_two_networks(images: int, classes: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    labels, teacher, student = torch.randint(classes, (3, images), generator=random)
    found = [
        100 * (one == other).float().mean().item() for one, other in ((teacher, labels), (student, labels), (teacher, student))
    ]
    low, high = bounds(found[0], found[2])
    assert low - 1e-3 <= found[1] <= high + 1e-3


def test_the_teacher_itself_is_a_perfect_student(known: Network) -> None:
    found = estimated(known, known)
    assert found.agreement is not None
    assert found.agreement.value > 90
    assert found.accuracy is not None
    assert found.accuracy.low <= 90 <= found.accuracy.high
    assert not found.findings


def test_the_worse_the_student_the_lower_the_estimate(known: Network) -> None:
    values = [estimated(noisy(known, amount), known).agreement for amount in (0.0, 0.3, 0.6, 2.0)]
    shown = [value.value for value in values if value]
    assert len(shown) == 4
    assert shown == sorted(shown, reverse=True)
    assert shown[0] > shown[3] + 30


def test_broken_students_are_called_what_they_are(known: Network) -> None:
    collapsed = estimated(Changed(known.module, lambda z: z + 1e4 * torch.eye(z.shape[1])[3]), known)
    assert collapsed.findings == ("It has collapsed: it calls nearly every probe class 3.",)
    assert estimated(Changed(known.module, without(1)), known).findings == ("It has never learnt class 0.",)
    assert estimated(Changed(known.module, without(2)), known).findings == ("It has never learnt classes 0, 1.",)
    fresh = estimated(network(5, "small-cnn-half", known.card.inputs), known)
    assert fresh.agreement is not None
    assert fresh.agreement.value < 50
    swapped = estimated(Changed(known.module, lambda z: z.roll(1, 1)), known)
    assert "next to nothing" in swapped.findings[0]


def test_what_cannot_be_known_is_said(known: Network, taught: Network) -> None:
    nobody = estimated(known, taught)
    assert nobody.agreement is None
    assert "nobody has stated the teacher's accuracy" in nobody.unknown
    assert nobody.sentences()[0].startswith("How good it is cannot be known")
    assert estimated(known, taught, accuracy=85.0).agreement is not None
    assert "much harder for it" in estimated(known, taught, accuracy=99.5).unknown
    slow = estimated(known, known, seconds=1e-6)
    assert "would take about" in slow.unknown
    assert any("What is certain" in each for each in slow.sentences())
    blind = Network(Changed(known.module, lambda z: z.detach()), known.card)
    assert "no gradient" in estimated(known, blind).unknown
    one = Network(Changed(known.module, lambda z: z + 1e4 * torch.eye(z.shape[1])[3]), known.card)
    assert "reach too few" in estimated(known, one).unknown
    many = Network(Changed(known.module, lambda z: torch.cat([z] * 5, 1)), known.card.model_copy(update={"classes": 50}))
    assert "50 classes" in estimated(many, many).unknown


def test_networks_that_do_not_fit_are_refused(known: Network) -> None:
    other = network(1, classes=7, inputs=known.card.inputs)
    with pytest.raises(ValueError, match=r"7 classes .* give the teacher that it was distilled from"):
        estimated(other, known)
    segmenter = known.card.model_copy(update={"task": "segmentation"})
    with pytest.raises(ValueError, match=r"evaluate on labelled data|segmentation"):
        estimated(Network(Changed(known.module, lambda z: z[:, :, None, None].expand(-1, -1, 8, 8)), segmenter), known)


def test_probes_are_kept_for_their_teacher(known: Network, tmp_path: Path) -> None:
    probes, file = made.make_probes(known, 8, Runtime("cpu", "fp32", 0)), tmp_path / KEPT
    again = made.make_probes(known, 8, Runtime("cpu", "fp32", 0))
    assert all(torch.equal(probes.families[name], again.families[name]) for name in made.FAMILIES), "always the same"
    probes.save(file, fingerprint(known.module))
    kept = made.kept_probes(file, known)
    assert kept is not None
    assert all(torch.equal(kept.families[name], probes.families[name]) for name in made.FAMILIES)
    assert made.kept_probes(file, network(1, inputs=known.card.inputs)) is None, "another teacher's"
    file.write_bytes(file.read_bytes()[:-10])
    assert made.kept_probes(file, known) is None, "a part of the file is missing"
    assert made.kept_probes(tmp_path / "none", known) is None


def test_a_run_ends_with_an_estimate(known: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = datafree.Recipe(datafree.Procedural(), datafree.Plan(rounds=2, steps=2, batch=16, pool_size=32), "a test")
    students = []
    for name, least in (("with", 0.0), ("without", 1e9)):
        monkeypatch.setattr(running, "LEAST", least)
        monkeypatch.setattr(running, "SHARE", 1e3)
        out = tmp_path / name
        datafree.distill(known, "small-cnn-quarter", recipe=recipe, out=out, device="cpu", quiet=True)
        students.append(fingerprint(datafree.load(out / "student.safetensors").module))
        record = json.loads((out / "run.json").read_text())
        assert ("estimate" in record) is (name == "with")
    found = json.loads((tmp_path / "with" / "run.json").read_text())["estimate"]
    assert found["fit"] == fitted().version
    assert found["accuracy"]["low"] <= found["accuracy"]["value"] <= found["accuracy"]["high"]
    assert students[0] == students[1], "the estimate does not touch the student"
    assert (tmp_path / "with" / KEPT).exists()


def test_the_command(known: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher, student = tmp_path / "teacher.safetensors", tmp_path / "student.safetensors"
    known.save(teacher)
    Network(noisy(known, 0.3), known.card).save(student)
    line = ["estimate", str(student), "--teacher", str(teacher), "--device", "cpu"]
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert "Its accuracy is about" in printed
    assert "nine times in ten" in printed
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sentences"][0] in printed
    assert set(found["readings"]["families"]) == {*made.FAMILIES, "pushed"}


def test_the_fit_is_of_enough_students() -> None:
    assert len(fitted().seen) >= 20
    off = [abs(one - other) for one, other in fitted().seen]
    assert sum(each < 25 for each in off) / len(off) > 0.8, "the constants are those of their table"


def test_an_estimate_depends_on_the_two_networks_only(known: Network) -> None:
    torch.manual_seed(5)
    first = estimated(noisy(known, 0.3), known)
    torch.manual_seed(6)
    assert estimated(noisy(known, 0.3), known) == first
