"""Requests for a size of student, the candidates for one, and the rule by which one is taken."""

from pathlib import Path

import pytest
import torch
from helpers import INPUTS, TINY, network
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from datafree import Card, InputSpec, Network, load, students
from datafree.core.spelling import parse_spelling, spelled
from datafree.networks.architectures import ARCHITECTURES
from datafree.networks.architectures.sized import SIZED
from datafree.networks.network import built
from datafree.networks.saved.weights import parameters
from datafree.networks.shrink.candidates import Candidate, Search
from datafree.networks.shrink.choose import COSTS, Chooser, listed, ranked
from datafree.networks.shrink.families import FAMILIES, Variant, variants_here
from datafree.networks.shrink.foreign import variants_elsewhere
from datafree.networks.shrink.request import Request, parse_request
from datafree.networks.sources import student_for

COLOUR = InputSpec(shape=(3, 32, 32))
LARGE = InputSpec(shape=(3, 96, 96))


def card(architecture: str, inputs: InputSpec = COLOUR, **options: object) -> Card:
    task = "segmentation" if "segmenter" in architecture or "deeplab" in architecture else "classification"
    return Card(architecture=architecture, options=options, classes=10, inputs=inputs, task=task)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4x", Request("4x", "weights", 4, relative=True)),
        ("2.5x-compute", Request("2.5x-compute", "compute", 2.5, relative=True)),
        ("5ms", Request("5ms", "latency", 5)),
        ("0.5ms@8", Request("0.5ms@8", "latency", 0.5, batch=8)),
        ("2MB", Request("2MB", "file", 2_000_000)),
        ("500kB", Request("500kB", "file", 500_000)),
        ("1MiB", Request("1MiB", "file", 2**20)),
        ("resnet20", None),
        ("timm:resnet18", None),
        ("", None),
    ],
)
def test_a_request_is_read(text: str, expected: Request | None) -> None:
    assert parse_request(text) == expected


@pytest.mark.parametrize(
    "text", ["1x", "0.5x", "0x", "4", "4xx", "4x-weights", "5ms@0", "5ms@99999", "0ms", "0MB", "2GB", "9" * 99]
)
def test_text_that_begins_with_a_digit_and_is_no_size_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"write 4x, 4x-compute, 5ms, 5ms@8 \(at batch 8\) or 2MB"):
        parse_request(text)


def test_no_architecture_can_be_taken_for_a_size() -> None:
    assert not [name for name in ARCHITECTURES if name[0].isdigit()]


@pytest.mark.parametrize(
    "options", [{}, {"depth": 26, "width": 12}, {"width": 0.5}, {"norm": True, "a": None}, {"act": "relu"}, {"act": "12"}]
)
def test_a_spelling_reads_back(options: dict[str, object]) -> None:
    assert parse_spelling(spelled("cifar-resnet", options)) == ("cifar-resnet", options)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["resnet20,width", "resnet20,=3", "resnet20,width=8,width=4", "resnet20,"])
def test_a_spelling_with_an_option_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=VALUE"):
        student_for(text, card("resnet20"))


@pytest.mark.parametrize("name", SIZED)
def test_every_sized_design_answers_with_logits_and_grows_with_its_width(name: str) -> None:
    family = next(family for family in FAMILIES if family.architecture == name)
    shape = (1, 32, 32) if name == "lenet" else (3, 32, 32)
    few, more = (SIZED[name](shape, 7, width=width) for width in (family.widths[0], family.widths[-1]))
    assert few.eval()(torch.randn(2, *shape)).shape == (2, 7)
    assert parameters(few) < parameters(more)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.architecture)
def test_members_of_a_family_have_the_size_that_is_written_there(family: object) -> None:
    assert isinstance(family, type(FAMILIES[0]))
    inputs = InputSpec(shape=(3, 32, 32))
    for name, (depth, width) in family.members.items():
        sizes = {"width": int(width)} | ({"depth": depth} if family.depths else {})
        assert parameters(built(card(name, inputs))) == parameters(built(card(family.architecture, inputs, **sizes))), name


@pytest.mark.parametrize("architecture", ["resnet18", "wrn-16-2", "cifar-resnet"])
def test_depths_that_a_design_does_not_have_are_refused(architecture: str) -> None:
    sized = {"resnet18": "resnet", "wrn-16-2": "wrn"}.get(architecture, architecture)
    with pytest.raises(ValueError, match="depth"):
        student_for(f"{sized},depth=17", card(architecture))


def test_the_variants_of_a_family_are_never_larger_than_the_teacher_and_never_the_teacher() -> None:
    found = [each for each in variants_here(card("cifar-resnet", depth=26, width=12)) if each.kin]
    assert found
    assert all(each.options["depth"] <= 26 and each.options["width"] <= 12 for each in found)  # type: ignore[operator]
    assert {"depth": 26, "width": 12} not in [each.options for each in found]


def test_a_teacher_that_no_family_knows_gets_small_designs_by_its_inputs() -> None:
    assert {each.architecture for each in variants_here(card("shop:network"))} == {"cifar-resnet"}
    assert not list(variants_here(card("shop:network", LARGE)))
    assert {each.architecture for each in variants_here(card("deeplabv3-resnet50", LARGE))} == {"compact-segmenter"}


def candidate(weights: int, imbalance: float = 0.0, kin: bool = True) -> Candidate:
    return Candidate(card("resnet8"), kin, imbalance, weights, 4 * weights)


def test_the_rule_is_family_then_near_and_even_then_the_closest() -> None:
    even, uneven, large, far, other = (
        candidate(91, 0.1),
        candidate(99, 0.5),
        candidate(101, 0.0),
        candidate(50, 0.0),
        candidate(100, 0.0, kin=False),
    )
    assert ranked([other, far, large, uneven, even], COSTS["weights"], 100) == [even, uneven, far, other]
    farther = candidate(40, 0.0)
    assert ranked([farther, far], COSTS["weights"], 100) == [far, farther]


def test_a_quarter_of_the_weights_of_a_resnet56_is_even_in_depth_and_width() -> None:
    choice = Chooser(network(0, "resnet56", COLOUR)).answer(Request("4x", "weights", 4, relative=True))
    assert choice.candidates[0].name == "cifar-resnet,depth=26,width=12"
    assert choice.candidates[0].weights == 206_950 <= 853_018 // 4
    assert choice.candidates[0].multiply_adds == 30_855_648
    assert "206,950 weights of 213,254 weights; the teacher's family, the most even" in choice.reason


@pytest.mark.parametrize("text", ["4x", "3x-compute", "8kB"])
def test_every_listed_student_was_run_and_is_within_the_request(text: str) -> None:
    teacher = network(0)
    request = parse_request(text)
    assert request
    found = students(teacher, text)
    limit = {"4x": 3682 / 4, "3x-compute": COSTS["compute"](Search(teacher.card, 9**9).checked(_itself())) / 3, "8kB": 8000}[
        text
    ]
    assert found
    for each in found:
        assert COSTS[request.kind](each) <= limit
        assert each.latency_ms
        if not each.request:  # of a pruned teacher
            assert student_for(each.name, teacher.card).parameters == each.weights


def _itself() -> Candidate:
    return Candidate(network(0).card, True, 0.0, 0, 0)


def test_a_latency_is_measured_and_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock of our own: a millisecond for every thousand weights."""
    times = lambda module, inputs, batch=1, **_: batch * parameters(module) / 1000  # noqa: E731
    monkeypatch.setattr("datafree.networks.shrink.candidates.latency_ms", times)
    monkeypatch.setattr("datafree.networks.shrink.choose.latency_ms", times)
    found = listed(network(0), "4ms@8")
    assert found.candidates[0].latency_ms == 8 * found.candidates[0].weights / 1000 <= 4
    assert "ms at batch 8 of 4.00 ms at batch 8" in found.reason


def test_a_request_that_the_teacher_meets_is_refused() -> None:
    with pytest.raises(ValueError, match=r"The teacher itself is within the size asked for, 5MB: it has 0\.01.* MB; ask for"):
        students(network(0), "5MB")


def test_a_request_that_nothing_meets_names_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"has at most 1 weights \(3000x\); the nearest is small-cnn,width=2 with \d+ weights: ask"
    ):
        students(network(0), "3000x")


def test_a_teacher_of_no_family_that_is_smaller_than_all_says_what_to_do() -> None:
    tiny = Network(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), card("x:y", INPUTS))
    with pytest.raises(ValueError, match=r"known here; name an architecture, --student NAME"):
        students(tiny, "2x")


def test_candidates_that_cannot_be_built_are_left_out() -> None:
    search = Search(card("resnet20"), 10**9)
    assert search.sized(Variant("cifar-resnet", {"depth": 9}), count=False) is None
    assert search.sized(Variant("cifar-resnet", {"depth": 8, "heads": 2}), count=True) is None
    small = Search(card("resnet20"), 1000)
    assert small.sized(Variant("cifar-resnet", {"depth": 8}), count=False) is None


def test_the_check_refuses_a_network_that_fails() -> None:
    search = Search(card("vit-mini"), 10**9)
    with pytest.raises(ValueError, match="embed_dim"):
        search.checked(Candidate(card("vit", width=10), True, 0.0, 0, 0))


def test_looking_for_students_draws_no_random_numbers_and_leaves_the_teacher() -> None:
    teacher = network(0)
    before = {name: value.clone() for name, value in teacher.module.state_dict().items()}
    torch.manual_seed(5)
    students(teacher, "4x")
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert all(torch.equal(value, before[name]) for name, value in teacher.module.state_dict().items())
    assert not teacher.module.training


def test_without_a_request_there_is_one_for_each_of_several_sizes() -> None:
    found = students(network(0, "small-cnn-half"))
    assert len(found) >= 4
    assert sorted((each.weights for each in found), reverse=True) == [each.weights for each in found]


def test_timms_family_is_that_of_the_teachers_file_and_is_not_pretrained() -> None:
    pytest.importorskip("timm", reason="timm's networks are its own")
    found = [each for each in variants_elsewhere(card("timm:resnet26", LARGE, act_layer="relu")) if each.kin]
    names = [each.architecture for each in found]
    assert "timm:resnet18" in names
    assert "timm:resnet26" not in names
    assert not [name for name in names if "resnext" in name]
    assert all(each.options == {"act_layer": "relu"} for each in found)
    assert not list(variants_elsewhere(card("timm:no_such_network")))


def test_a_student_of_timms_is_found_saved_and_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm", reason="timm's networks are its own")
    monkeypatch.setattr("datafree.networks.shrink.foreign.MOST", 5)
    found = listed(network(0, "timm:mobilenetv3_large_100", LARGE), "2x").candidates[0]
    assert found.name.startswith("timm:mobilenetv3_")
    assert found.weights <= network(0, "timm:mobilenetv3_large_100", LARGE).parameters / 2


def test_torchvisions_family_is_that_of_the_teachers_file() -> None:
    pytest.importorskip("torchvision", reason="torchvision's networks are its own")
    for architecture, options in (
        ("torchvision.models:resnet34", {"num_classes": 10}),
        ("torchvision.models:get_model", {"name": "resnet34", "num_classes": 10}),
    ):
        found = [each for each in variants_elsewhere(card(architecture, LARGE, **options)) if each.kin]
        assert "torchvision.models:resnet18" in [each.architecture for each in found]
        assert all(each.options == {"num_classes": 10} for each in found)


def test_a_student_with_options_loads_from_its_own_file(tmp_path: Path) -> None:
    made = student_for("small-cnn,width=5", network(0, TINY).card)
    made.save(tmp_path / "student.safetensors")
    found = load(tmp_path / "student.safetensors")
    assert found.card.options == {"width": 5}
    x = torch.randn(2, *INPUTS.shape)
    assert torch.equal(found.module(x), made.module.eval()(x))


def test_a_far_larger_network_is_not_built_to_its_end() -> None:
    search = Search(card("resnet8"), parameters(network(1, "resnet8", COLOUR).module))
    layers: list[nn.Module] = []
    counting = register_module_module_registration_hook(lambda parent, name, layer: layers.append(parent))
    try:
        assert search.sized(Variant("wrn-40-2"), count=False) is None
        begun = len(layers)
        network(1, "wrn-40-2", COLOUR)
    finally:
        counting.remove()
    assert begun < (len(layers) - begun) / 2
