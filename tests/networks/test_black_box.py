"""Teachers of which only the answers are known: a function is asked as it should be, and its runs resume and are refused."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import INPUTS, TINY, network, noise_images, stored_images
from torch import Tensor

from datafree import BlackBox, Network, Plan, Procedural, Recipe, Stored, distill, evaluate, synthesize
from datafree.core.runtime import Runtime
from datafree.engine.alarm import Alarm
from datafree.networks.black_box import answers
from datafree.networks.black_box.answers import Answers
from datafree.networks.saved.weights import fingerprint
from datafree.networks.sources import as_network
from datafree.networks.teacher import Teacher
from datafree.recipes import find_recipe

SMALL = Plan(rounds=4, steps=2, batch=8, log_every=1, eval_every=0, grid_every=0, save_every=2)
PROCEDURAL = Recipe(Procedural(supply={"candidates": 2, "batch": 8}), SMALL, "a test")
HOW: dict[str, Any] = {"inputs": INPUTS, "device": "cpu", "quiet": True}


class Vendor:
    """A teacher that only answers, with probabilities, and notes how many images it was asked about."""

    def __init__(self, seed: int = 1, most: int = 10**9):
        self.network, self.most, self.sizes = network(seed).module, most, list[int]()

    def __call__(self, x: Tensor) -> np.ndarray[Any, Any]:
        self.sizes.append(len(x))
        if sum(self.sizes) > self.most:
            raise ConnectionError("no such host")
        return self.network(x).softmax(1).numpy()


def results(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text())["results"]
    return found


def test_a_function_teaches_by_images_that_need_no_gradient(tmp_path: Path) -> None:
    vendor = Vendor()
    distill(vendor, TINY, out=tmp_path / "run", budget="128images", eval_data=str(stored_images(tmp_path)), **HOW)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["identity"]["method"]["name"] == "procedural"
    assert record["teacher"]["outputs"] == "probabilities"
    assert record["results"]["images_sent"] == sum(vendor.sizes), "checks, measurements and the evaluation are counted too"
    assert record["results"]["teacher_accuracy"] == evaluate(vendor, str(tmp_path / "images.npz"), inputs=INPUTS).percent
    assert "its teacher's are not known" in (tmp_path / "run" / "report.html").read_text().replace("&#39;", "'")
    assert not [*(tmp_path / "run").glob("*.answers")], "what a finished run no longer needs"


@pytest.mark.parametrize(
    "form", [lambda x: x, lambda x: x.double(), lambda x: x.numpy(), lambda x: x.tolist(), lambda x: (x, 3)]
)
def test_answers_come_in_any_form(form: Callable[[Tensor], Any]) -> None:
    module = network(1).module
    box = as_network(lambda x: form(module(x)), INPUTS).module
    assert torch.equal(box(noise_images()), module(noise_images()))
    assert not box(noise_images().requires_grad_()).requires_grad


WRONG: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "labels": (lambda x: x.flatten(1)[:, :9].argmax(1), r"numbers \[\d+\], not \[\d+, classes\]; make it return a logit"),
    "one class": (lambda x: x.flatten(1)[:, :1], r"numbers \[\d+, 1\], not"),
    "one answer": (lambda x: x.flatten(1)[:1, :9], r"numbers \[1, 9\], not"),
    "text": (lambda x: "cat", r"'<lambda>' returns str, not a tensor or array"),
    "nothing": (lambda x: None, r"not \[\d+, classes\]"),
    "failure": (lambda x: {}["key"], r"failed for \d+ images of 1x8x8 \(KeyError: 'key'\)"),
    "exit": (lambda x: exit(3), "calls for the end of this program"),
    "infinity": (lambda x: x.flatten(1)[:, :9] / 0, r"answers image 1 of \d+ with NaN or infinity"),
    "by its batch": (lambda x: (x - x.mean(0)).flatten(1)[:, :9], "answers an image otherwise beside others"),
    "by chance": (lambda x: np.random.default_rng().random((len(x), 9)), "or when it is asked again"),
    "always the same": (lambda x: torch.ones(len(x), 9), "gives every image the same outputs"),
    "other classes later": (lambda x: x.flatten(1)[:, : 9 + (len(x) == 1)], r"numbers \[10\], and an earlier one with \[9\]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_answer_is_refused_in_a_sentence(name: str) -> None:
    ask, words = WRONG[name]
    with pytest.raises(ValueError, match=words) as error:
        distill(ask, TINY, recipe=PROCEDURAL, **HOW)
    assert "\n" not in str(error.value)


def test_what_it_is_given_is_its_own() -> None:
    seen: list[tuple[bool, torch.dtype, bool]] = []
    kept = torch.zeros(64, 10)
    module = network(1).module

    def careless(x: Tensor) -> Tensor:
        logits = module(x)
        seen.append((torch.is_autocast_enabled("cpu"), logits.dtype, logits.requires_grad))
        torch.rand(3)
        x.zero_()
        kept[: len(x)] = logits
        return kept[: len(x)]  # a buffer that the next call overwrites

    box, x = BlackBox(careless, INPUTS, batch=5), noise_images()
    before, state = x.clone(), torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = box(x), box(-x)
    assert torch.equal(x, before)
    assert torch.equal(found, torch.cat([module(part) for part in before.split(5)]))
    assert torch.equal(torch.get_rng_state(), state)
    assert {*seen} == {(False, torch.float32, False)}


def test_another_function_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    distill(Vendor(1), TINY, recipe=PROCEDURAL, out=tmp_path / "run", **HOW)
    again = Vendor(1)
    distill(again, TINY, recipe=PROCEDURAL, out=tmp_path / "run", **HOW)
    assert sum(again.sizes) < 40, "a finished run asks no more than which teacher it is"
    with pytest.raises(ValueError, match="holds another run: teacher is"):
        distill(Vendor(2), TINY, recipe=PROCEDURAL, out=tmp_path / "run", **HOW)


def test_it_is_known_by_its_answers_and_not_by_their_last_bits() -> None:
    module = network(1).module

    def sure(x: Tensor) -> Tensor:
        return (30 * module(x)).softmax(1)

    prints = [
        fingerprint(BlackBox(ask, INPUTS))
        for ask in (sure, lambda x: sure(x) * (1 + 1e-7), lambda x: sure(x).clamp_min(1e-4), lambda x: sure(x).roll(1, 1))
    ]
    assert prints[0] == prints[1]
    assert len({*prints}) == 3


@pytest.mark.parametrize("name", ["fast-light", "dfad-digits", "deepinversion-cifar10"])
def test_methods_that_need_a_gradient_refuse_it(name: str) -> None:
    with pytest.raises(ValueError, match=r"and none arrives: .* use procedural, or stored"):
        distill(Vendor(), TINY, recipe=find_recipe(name).dry_run(), **HOW)


@pytest.mark.parametrize("size", ["4x", "4x-compute", "4x-pruned"])
def test_a_size_relative_to_it_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match=rf"The size {size} is relative .* 2MB or 5ms"):
        distill(Vendor(), size, recipe=PROCEDURAL, **HOW)


def test_a_size_by_itself_is_served() -> None:
    student = distill(Vendor(), "30kB", recipe=PROCEDURAL.dry_run(), **HOW)
    assert 0 < sum(weight.nbytes for weight in student.parameters()) < 30_000


def test_inputs_are_asked_for_and_may_not_contradict() -> None:
    with pytest.raises(ValueError, match="A plain function has no input description"):
        distill(Vendor(), TINY)
    with pytest.raises(ValueError, match="leave inputs out"):
        distill(BlackBox(Vendor(), INPUTS), TINY, inputs=INPUTS.replaced(mean=(0.0,)))


def test_it_is_not_written_to_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give the function or the command itself"):
        as_network(Vendor(), INPUTS).save(tmp_path / "box.safetensors")


def stored(tmp_path: Path, **changes: Any) -> Recipe:
    return Recipe(Stored(path=stored_images(tmp_path), **changes), SMALL.replaced(rounds=20), "a test")


def test_a_run_that_resumes_pays_for_nothing_twice_and_is_bitwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Alarm, "check", lambda *_: None)  # which asks by the clock
    whole = distill(Vendor(), TINY, recipe=stored(tmp_path), out=tmp_path / "whole", **HOW)
    checks = results(tmp_path / "whole")["images_sent"] - 40
    with pytest.raises(ValueError, match="ConnectionError: no such host"):
        distill(Vendor(most=checks + 25), TINY, recipe=stored(tmp_path), out=tmp_path / "run", **HOW)
    again = Vendor()
    student = distill(again, TINY, recipe=stored(tmp_path), out=tmp_path / "run", **HOW)
    assert sum(again.sizes) == checks + 40 - 24, "three batches of eight had been answered"
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in student.state_dict().items())
    assert results(tmp_path / "run")["images_sent"] == 2 * checks + 40
    assert results(tmp_path / "run")["answers_reused"] >= results(tmp_path / "whole")["answers_reused"] > 0


def test_a_set_that_is_made_resumes(tmp_path: Path) -> None:
    made = synthesize(Vendor(), PROCEDURAL, 24, batch=8, out=tmp_path / "whole.safetensors", **HOW)
    with pytest.raises(ValueError, match="no such host"):
        synthesize(Vendor(most=70), PROCEDURAL, 24, batch=8, out=tmp_path / "set.safetensors", **HOW)
    again = synthesize(Vendor(), PROCEDURAL, 24, batch=8, out=tmp_path / "set.safetensors", **HOW)
    assert torch.equal(again.pixels[0], made.pixels[0])


@pytest.fixture
def box() -> BlackBox:
    return BlackBox(Vendor(), INPUTS, batch=4)


def asked(box: BlackBox, file: Path, x: Tensor) -> tuple[int, Tensor]:
    """How many images of x the box was sent, and the answers, by a new `Answers`."""
    before, kept = box.asked, Answers(file, box)
    found = kept(x)
    kept.close()
    return box.asked - before, found


@pytest.mark.parametrize(("cut", "sent"), [(0, 0), (1, 4), (300, 8)])
def test_a_frame_that_is_cut_short_is_asked_again_as_a_whole(box: BlackBox, tmp_path: Path, cut: int, sent: int) -> None:
    file, x = tmp_path / "a.answers", noise_images()
    _, first = asked(box, file, x)
    file.write_bytes(file.read_bytes()[: file.stat().st_size - cut])
    again, found = asked(box, file, x)
    assert again == sent
    assert torch.equal(found, first)
    assert torch.equal(found, box(x))


def test_spoilt_answers_are_not_believed(box: BlackBox, tmp_path: Path) -> None:
    file, x = tmp_path / "a.answers", noise_images()
    asked(box, file, x)
    whole = file.read_bytes()
    for place in (3, 40, 100, 150, len(whole) - 1):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1
        file.write_bytes(spoilt)
        assert torch.equal(asked(box, file, x)[1], box(x)), place
    assert asked(BlackBox(Vendor(2), INPUTS), file, x)[0] == 12, "those of another box"


def test_a_full_file_stays_as_it_is(box: BlackBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST", 8)
    for sent in (12, 4, 4):
        again, found = asked(box, tmp_path / "a.answers", noise_images())
        assert again == sent
        assert torch.equal(found, box(noise_images()))


def test_the_hooks_of_a_copy_are_its_own(box: BlackBox) -> None:
    found = [Teacher(each, INPUTS, Runtime("cpu"))(noise_images()) for each in (box, box, copy.deepcopy(box))]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[0], box(noise_images()).log())


def test_a_network_with_a_black_box_keeps_its_counts_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Alarm, "check", lambda *_: None)  # which asks by the clock
    teacher: Network = as_network(Vendor(), INPUTS)
    for name in ("one", "two"):
        distill(teacher, TINY, recipe=PROCEDURAL, out=tmp_path / name, device="cpu", quiet=True)
    assert results(tmp_path / "one")["images_sent"] == results(tmp_path / "two")["images_sent"]
